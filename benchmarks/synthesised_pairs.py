"""What training on synthesised pairs costs against training on true ones, in points of success on remove and add.

    python benchmarks/synthesised_pairs.py [--clips 400] [--steps 2000] [--batch 8] [--items 60] [--disturb 0.15]
                                           [--work FOLDER] [--json OUT.json] [--write docs/synthesis.md]

Clips of the shipped model's world become pairs by the back end `self`. The shipped model's weights are disturbed, and
it is trained twice from there with one recipe: on those pairs, and on the true pairs of the same clips (what the
renderer draws without the thing). Both are judged on clips that neither has seen, by the world's own measure.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import results
import torch
from tqdm import tqdm

from instructx_core.config import tiny
from instructx_core.data.readers.jsonl import write_records
from instructx_core.data.record import EditRecord, Locator
from instructx_core.media.files import write_video
from instructx_core.shapes.sampling import sample
from instructx_core.synthesis.export import export
from instructx_core.synthesis.films import find_films
from instructx_core.synthesis.measure_own import CLEAN_CRF, FPS, SPLIT, shapes_clip, shapes_setup
from instructx_core.synthesis.run import WORK, candidates_of
from instructx_core.synthesis.setup import Setup
from instructx_core.training.jobs.edit import EditJob
from instructx_core.training.recipes.base import FROM_SHIPPED
from instructx_core.training.recipes.edit import EditRecipe
from instructx_core.training.recipes.paper import stage2
from instructx_core.training.runs.run import build_job
from instructx_core.training.trainer import Trainer

TASKS = ("remove", "add")
GOAL = 5.0  # points that may be lost
FIRST = 1004  # number of the first clip


def synthesised(work: Path, clips: int) -> Path:
    """records.jsonl of the back end `self`."""
    films = work / "films"
    films.mkdir(parents=True, exist_ok=True)
    for index in range(FIRST, FIRST + clips):
        if not (films / f"clip-{index}.mp4").is_file():
            write_video(films / f"clip-{index}.mp4", shapes_clip(index)[0], FPS, crf=CLEAN_CRF)
    setup = shapes_setup("self")
    # Clips of a drawn world look alike by their hashes, and last 17 frames.
    setup = Setup(dataclasses.replace(setup.limits, shortest=1.0, alike=0), setup.casting)
    run = candidates_of(find_films(films, work / "set"), work / "set", setup, 1)
    found = list(tqdm(run, total=clips, unit="clip"))
    export(found, work / "set" / WORK, work / "set", setup)
    return work / "set" / "records.jsonl"


def true_pairs(work: Path, clips: int) -> Path:
    """records.jsonl of the same clips with what the renderer draws: a removal and an addition each."""
    media = work / "true"
    media.mkdir(parents=True, exist_ok=True)
    records = list[EditRecord]()
    for index in range(FIRST, FIRST + clips):
        for task in TASKS:
            drawn = sample(SPLIT, index, "video", task)
            sides = {"source": drawn.source_FHWC, "target": drawn.target_FHWC}
            for side, frames_FHWC in sides.items():
                if not (media / f"{index}-{task}-{side}.mp4").is_file():
                    write_video(media / f"{index}-{task}-{side}.mp4", frames_FHWC, FPS, crf=CLEAN_CRF)
            places = {side: Locator(str(media / f"{index}-{task}-{side}.mp4")) for side in sides}
            records.append(EditRecord(f"{index}-{task}", task, "video", drawn.instruction, **places))
    write_records(media / "records.jsonl", records)
    return media / "records.jsonl"


def recipe_of(data: str, args: argparse.Namespace) -> EditRecipe:
    return dataclasses.replace(
        stage2(),
        preset="tiny",
        requires=(FROM_SHIPPED,),
        data=data,
        tasks=TASKS,
        precision="fp32",
        num_steps=args.steps,
        learning_rate=args.rate,
        warmup_steps=min(50, args.steps),
        video_batch=args.batch,
        micro_video_batch=args.batch,
        video_probability=1.0,
        reference_probability=0.0,
        instruction_dropout=0.0,
        validate_every=0,
        sample_every=0,
        save_every=max(1, args.steps),
        image_pool=0,
        image_reference_pool=0,
        video_pool=9,  # of the drawn source, which only judges; of files all are taken
        video_reference_pool=0,
        video_validation=9 * args.items,  # kinds come in turn
        image_validation=0,
        image_reference_validation=0,
        video_reference_validation=0,
    )


def disturb(job: EditJob, share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in job.denoiser.parameters():
            if weight.ndim > 1:
                weight += share * weight.std() * torch.randn(weight.shape, generator=generator)


def successes(judge: EditJob, job: EditJob) -> Iterator[tuple[str, bool]]:
    """Every held-out clip of the two kinds, edited by the trained model."""
    decoder = judge.model.decoder()
    assert decoder is not None
    for bucket, pool in judge.validation.items():
        for row, number in enumerate(pool.numbers):
            if judge.source.task("val", int(number), bucket) not in TASKS:
                continue
            edit = judge.source.edit("val", int(number), bucket)
            batch = judge.batch(pool, bucket, np.array([row]), [pool.text(row)[0]])
            with torch.no_grad():
                edited_NFHWC = job.edit(batch, job.conditions(batch), decoder)
            assert edit.judge is not None
            yield edit.task, bool(edit.judge(edited_NFHWC[0]))


def trained(name: str, data: str, judge: EditJob, work: Path, args: argparse.Namespace) -> dict[str, float]:
    """Points of success by task, before training under "before"."""
    job = build_job(recipe_of(data, args), tiny(), work / name)
    assert isinstance(job, EditJob)
    disturb(job, args.disturb)
    points = {f"{task} before": value for task, value in _points(successes(judge, job)).items()}
    Trainer(job.recipe, job, work / name / "run").run()
    return points | _points(successes(judge, job))


def _points(found: Iterator[tuple[str, bool]]) -> dict[str, float]:
    rows = list(found)
    return {task: 100.0 * float(np.mean([ok for kind, ok in rows if kind == task])) for task in TASKS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--items", type=int, default=60, help="held-out clips of each kind")
    parser.add_argument("--disturb", type=float, default=0.15, help="share of each weight's spread")
    parser.add_argument("--work", type=Path)
    results.add_options(parser, document=True)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        sets = {"synthesised": synthesised(work, args.clips), "true": true_pairs(work, args.clips)}
        judge = build_job(recipe_of("shapes", args), tiny(), work / "judge")
        assert isinstance(judge, EditJob)
        found = {name: trained(name, str(path), judge, work, args) for name, path in sets.items()}
    lines = ["| trained on | before: remove, add | after: remove, add |", "| --- | --- | --- |"]
    for name, points in found.items():
        before, after = (", ".join(f"{points[task + end]:.0f}" for task in TASKS) for end in (" before", ""))
        lines.append(f"| {name} pairs of {args.clips} clips | {before} | {after} |")
    lost = max(found["true"][task] - found["synthesised"][task] for task in TASKS)
    settings = f"{args.steps} steps of {args.batch}, {args.items} clips a kind"
    lines.append(f"\n{settings}. Lost: {lost:.0f} points; goal {GOAL:.0f}.")
    results.report(args, {"points": found, "lost": lost, "steps": args.steps}, "\n".join(lines), "synthesised pairs")


if __name__ == "__main__":
    main()
