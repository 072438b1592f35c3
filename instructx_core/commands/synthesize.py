"""`instructx synthesize FILMS --output SET`: training pairs from films (paper A.2), resumable."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("films", type=Path, help="a film, or a folder of films")
    parser.add_argument("--output", type=Path, required=True, help="folder of the set; the same one goes on")
    parser.add_argument("--workers", type=int, default=1, help="processes, each with a film at a time (default: 1)")
    parser.add_argument("--runner", choices=("here", "ray"), default="here", help="ray: over a cluster's machines")
    parser.add_argument("--limits", type=Path, help="JSON file of thresholds that differ from the defaults")
    parser.add_argument("--json", type=Path, help="write funnel and counts there as well")


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ..errors import InputError
    from ..media.outputs import atomic_path, make_folder

    if args.workers < 1:
        raise InputError(f"--workers {args.workers}: there must be at least 1")
    try:
        import cv2  # noqa: F401
        import scenedetect  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"synthesize needs {error.name}; install its extra with: pip install 'instructx[synth]'"
        ) from None
    from ..synthesis.export import export
    from ..synthesis.films import find_films
    from ..synthesis.funnel import funnel, table
    from ..synthesis.limits import read_limits
    from ..synthesis.pipeline import stages_of
    from ..synthesis.report import write_report
    from ..synthesis.run import WORK, BadFilm, candidates_of, finished

    limits, films = read_limits(args.limits), find_films(args.films, args.output)
    make_folder(args.output)
    if args.runner == "ray":
        from ..synthesis.cluster import candidates_on_ray as run_films
    else:
        run_films = candidates_of
    started, bad = time.monotonic(), list[BadFilm]()
    with tqdm(unit="clip", desc=f"{len(films)} films", file=sys.stderr) as bar:
        for outcome in run_films(films, args.output, limits, args.workers):
            if isinstance(outcome, BadFilm):
                bad.append(outcome)
            else:
                bar.update()
    candidates = finished(args.output)
    exported = export(candidates, args.output / WORK, args.output, limits)
    steps = funnel(candidates, [stage.name for stage in stages_of(limits)])
    print("\n".join(table(steps)))
    for film in bad:
        print(f"not used: {film.reason}")
    if exported.copies:
        print(f"{len(exported.copies)} clips look like another one and were left out")
    counts = ", ".join(f"{count} {task}" for task, count in exported.tasks.items())
    page = write_report(candidates, [stage.name for stage in stages_of(limits)], args.output, limits)
    print(f"look at {page}")
    print(f"{counts} in {args.output} ({time.monotonic() - started:.0f} s)")
    if args.json is not None:
        values = {
            "films": len(films),
            "bad films": {film.film: film.reason for film in bad},
            "funnel": {step.stage: {"in": step.entered, "out": step.passed, "reasons": step.reasons} for step in steps},
            "records": exported.tasks,
            "copies": exported.copies,
        }
        with atomic_path(args.json) as temporary:
            temporary.write_text(json.dumps(values, indent=1) + "\n")
    return 0 if sum(exported.tasks.values()) else 1
