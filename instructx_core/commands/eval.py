"""`instructx eval shapes`: the benchmark table with bootstrap intervals, as text and JSON, and the worst failures."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from ..errors import InputError
from .model import ProgressLine, add_model_arguments, add_sampling_arguments, load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("benchmark", choices=["shapes"], help="shapes: the procedural world")
    parser.add_argument("--json", type=Path, required=True, help="file to write the numbers to")
    parser.add_argument("--sheet", type=Path, help="picture of the worst failures (.png)")
    parser.add_argument("--images", type=int, default=500, help="held-out images (default: 500)")
    parser.add_argument("--clips", type=int, default=200, help="held-out clips (default: 200)")
    parser.add_argument(
        "--batch-size", type=int, default=16, help="samples at once; no effect on results (default: 16)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    add_sampling_arguments(parser)
    add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    import numpy as np

    from ..evaluation.shapes import EvalSettings, run_benchmark, worst_failures
    from ..media.files import write_image
    from ..media.outputs import atomic_path, output_kind

    if not args.json.absolute().parent.is_dir():
        raise InputError(f"{args.json}: the folder {args.json.parent} does not exist; create it first")
    if args.sheet is not None and output_kind(args.sheet) != "image":
        raise InputError(f"{args.sheet}: the sheet is a picture; use .png")
    settings = EvalSettings(
        images=args.images,
        clips=args.clips,
        steps=args.steps,
        guidance=args.guidance,
        seed=args.seed,
        batch_size=args.batch_size,
    )
    _check_cache(args)
    pipe = load(args)
    partial = args.json.with_name(args.json.name + ".partial.jsonl")
    started = time.perf_counter()
    result = run_benchmark(pipe, settings, partial, args.resume, ProgressLine("sample"))
    seconds = time.perf_counter() - started
    with atomic_path(args.json) as temporary:
        temporary.write_text(json.dumps(result.as_dict(), indent=1) + "\n", encoding="utf-8")
    partial.unlink(missing_ok=True)
    print(result.table())
    print(f"\n{result.model}: {len(result.scores)} samples in {seconds:.0f} s; numbers in {args.json}")
    if args.sheet is not None:
        sheet = worst_failures(pipe, result)
        if sheet is None:
            print("no failures: no sheet written")
        else:
            write_image(args.sheet, np.asarray(sheet))
            print(f"worst failures in {args.sheet}")
    return 0


def _check_cache(args: argparse.Namespace) -> None:
    """Raises InputError for a cache under which a batch of samples is not what each of them is alone."""
    from ..speed.step_cache import StepCache

    if args.cache and StepCache.parse(args.cache).kind != "taylorseer" and args.batch_size > 1:
        raise InputError(
            f"--cache {args.cache} with --batch-size {args.batch_size}: the cache would decide for a whole batch; use "
            "--batch-size 1"
        )
