"""Many clips through the classic route of `instructx synthesize`: CPU seconds of each stage, memory over time, funnel.

    python benchmarks/synthesis_load.py [--clips 1000] [--work FOLDER] [--json OUT.json] [--write docs/synthesis.md]

Films are drawn with all kinds of trouble in turn and written before; only cutting and stages are timed, by the time
that the processor spends in this one process. Of `--work` the clips that are done are not run again, so their time is
that of the run that made them.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import results
from tqdm import tqdm

from instructx_core.media.files import write_video
from instructx_core.synthesis.drawn_films import CRF, FPS, FRAMES, draw_film
from instructx_core.synthesis.films import Film, cut, film_id
from instructx_core.synthesis.funnel import funnel
from instructx_core.synthesis.measure import CLEAN_CRF, SETS
from instructx_core.synthesis.pipeline import stages_of
from instructx_core.synthesis.setup import Setup
from instructx_core.synthesis.stage import ClipStage, run_stages
from instructx_core.synthesis.terms.candidate import Candidate, Reject

EVERY = 10  # clips between two looks at the memory


@dataclass
class TimedStage:
    stage: ClipStage
    seconds: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.stage.name

    @property
    def version(self) -> str:
        return self.stage.version

    def run(self, candidate: Candidate, folder: Path) -> Candidate | Reject:
        started = time.process_time()
        try:
            return self.stage.run(candidate, folder)
        finally:
            self.seconds.append(time.process_time() - started)


def resident() -> float:
    """MiB that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def write_film(number: int, folder: Path) -> Path:
    troubles = list(SETS.values())[number % len(SETS)]
    path = folder / f"film-{number:05d}.mp4"
    if not path.is_file():
        film = draw_film(10_000 + number, troubles)
        write_video(path, film.frames_FHWC, FPS, crf=CRF if "compression" in troubles else CLEAN_CRF)
    return path


def report(stages: list[TimedStage], cuts: list[float], candidates: list[Candidate], memory: list[float]) -> str:
    steps = {step.stage: step for step in funnel(candidates, [stage.name for stage in stages])}
    lines = ["| stage | clips in | out | CPU s a clip | rejected for |", "| --- | --- | --- | --- | --- |"]
    lines.append(f"| cut | {len(candidates)} | {len(candidates)} | {np.mean(cuts):.2f} | |")
    for stage in stages:
        step = steps[stage.name]
        reasons = ", ".join(f"{reason} {count}" for reason, count in step.reasons.items())
        seconds = f"{np.mean(stage.seconds):.2f}" if stage.seconds else "-"
        lines.append(f"| {stage.name} | {step.entered} | {step.passed} | {seconds} | {reasons} |")
    total = (sum(cuts) + sum(sum(stage.seconds) for stage in stages)) / len(candidates)
    tenth = max(1, len(memory) // 10)
    first, last = np.median(memory[tenth : 2 * tenth] or memory), np.median(memory[-tenth:])
    sentence = (
        f"{len(candidates)} clips of {FRAMES} frames, {total:.2f} CPU s a clip. Memory of the process: {first:.0f} MiB "
        f"in the second tenth of the run, {last:.0f} MiB in the last, {max(memory):.0f} MiB at most."
    )
    return "\n".join([*lines, "", sentence])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--work", type=Path, help="keep what was made there, and go on from it")
    results.add_options(parser, document=True)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    stages, cuts = [TimedStage(stage) for stage in stages_of(Setup())], list[float]()
    candidates, memory = list[Candidate](), list[float]()
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for number in tqdm(range(args.clips), unit="clip"):
            path = write_film(number, work)
            started = time.process_time()
            folder = cut(Film(path, film_id(path)), (0.0, FRAMES / FPS), work / "work", Setup().limits)
            cuts.append(time.process_time() - started)
            candidates.append(run_stages(folder, stages))
            if number % EVERY == 0:
                memory.append(resident())
            if args.work is None:  # a thousand clips are a gigabyte
                shutil.rmtree(folder)
                path.unlink()
            if args.json is not None and number % 50 == 49:
                args.json.with_suffix(".so-far.md").write_text(report(stages, cuts, candidates, memory) + "\n")
    figures = {
        "clips": args.clips,
        "cpu_seconds": {"cut": cuts, **{stage.name: stage.seconds for stage in stages}},
        "resident_mib": memory,
        "funnel": [dataclasses.asdict(step) for step in funnel(candidates, [stage.name for stage in stages])],
    }
    results.report(args, figures, report(stages, cuts, candidates, memory), "synthesis load")


if __name__ == "__main__":
    main()
