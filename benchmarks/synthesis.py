"""What the stages of data synthesis are worth on drawn films with exact truth, and clips a minute of one process.

    python benchmarks/synthesis.py [--films 40] [--sets "moving camera"] [--clips 40] [--work FOLDER] [--json OUT.json]
                                   [--write docs/synthesis.md]

--clips: of the world that the shipped model edits, through InstructX as back end beside the classic one.

A row a kind of trouble: masks and clean clips against the truth, wrong pairs before and after the filters, and how many
clips come through. `--work` keeps what was made, so that a run goes on and clips can be looked at.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import cv2
import results
from tqdm import tqdm

from instructx_core.synthesis.measure import SETS, FilmMeasurement, as_json, measure_films, summary
from instructx_core.synthesis.measure_own import CASTS, measure_shapes


def table(found: list[FilmMeasurement]) -> str:
    lines = [
        "| films | clips | mask IoU, median | error of the plate, levels | wrong pairs | after filters | passed |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in summary(found):
        lines.append(
            f"| {row['set']} | {row['films']} | {row['iou']:.2f} | {row['error']:.1f} | {row['wrong_before']} of "
            f"{row['made']} | {row['wrong_after']} of {row['passed']} | {row['passed']} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=40, help="of each kind")
    parser.add_argument("--first", type=int, default=1000, help="seed of the first film")
    parser.add_argument("--clips", type=int, default=0, help="of the shipped model's world (default: none)")
    parser.add_argument("--casts", nargs="+", choices=list(CASTS), default=list(CASTS))
    parser.add_argument("--sets", nargs="*", choices=list(SETS), default=list(SETS))
    parser.add_argument("--work", type=Path)
    results.add_options(parser, document=True)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        work, found = args.work or Path(temporary), list[FilmMeasurement]()
        started = time.process_time()
        seeds = range(args.first, args.first + args.films)
        clips = range(args.first, args.first + args.clips)
        with tqdm(total=args.films * len(args.sets) + args.clips * len(args.casts), unit="film") as bar:
            for measured in itertools.chain(
                measure_films(work, seeds, args.sets), measure_shapes(work / "shapes", clips, args.casts)
            ):
                found.append(measured)
                bar.update()
        minutes = (time.process_time() - started) / 60
    figures = {"films": as_json(found), "summary": summary(found), "clips_a_cpu_minute": len(found) / minutes}
    results.report(args, figures, table(found), "synthesis")


if __name__ == "__main__":
    main()
