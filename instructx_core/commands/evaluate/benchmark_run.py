"""What `instructx eval shapes` and `eval world` share: options, the table as text and JSON, the sheet of the worst
failures. Their files lie beside this one.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ..model import add_model_arguments, add_sampling_arguments

if TYPE_CHECKING:
    from PIL import Image

    from ...pipeline import InstructXPipeline


BenchmarkRun = tuple["InstructXPipeline", Any, Callable[[Any, Any], "Image.Image | None"]]


def add_common(parser: argparse.ArgumentParser, images: int, clips: int) -> None:
    parser.add_argument("--json", type=Path, required=True, help="file to write the numbers to")
    parser.add_argument("--sheet", type=Path, help="picture of the worst failures (.png)")
    parser.add_argument("--images", type=int, default=images, help=f"held-out images (default: {images})")
    parser.add_argument("--clips", type=int, default=clips, help=f"held-out clips (default: {clips})")
    parser.add_argument(
        "--batch-size", type=int, default=16, help="samples at once; no effect on results (default: 16)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    add_sampling_arguments(parser)
    add_model_arguments(parser)


def run_drawn(args: argparse.Namespace, measure: Callable[[argparse.Namespace, Path], BenchmarkRun]) -> int:
    """Runs it and writes what was asked for."""
    from ...media.outputs import output_kind

    if not args.json.absolute().parent.is_dir():
        raise InputError(f"{args.json}: the folder {args.json.parent} does not exist; create it first")
    if args.sheet is not None and output_kind(args.sheet) != "image":
        raise InputError(f"{args.sheet}: the sheet is a picture; use .png")
    _check_cache(args)
    partial = args.json.with_name(args.json.name + ".partial.jsonl")
    started = time.perf_counter()
    pipe, result, sheet = measure(args, partial)
    _write(args.json, result.as_dict())
    partial.unlink(missing_ok=True)
    print(result.table())
    seconds = time.perf_counter() - started
    print(f"\n{result.model}: {len(result.scores)} samples in {seconds:.0f} s; numbers in {args.json}")
    if args.sheet is not None:
        _draw(args.sheet, sheet(pipe, result))
    return 0


def common(args: argparse.Namespace) -> dict[str, Any]:
    names = ("images", "clips", "steps", "guidance", "seed", "batch_size")
    return {name: getattr(args, name) for name in names}


def _write(path: Path, numbers: dict[str, Any]) -> None:
    from ...media.outputs import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


def _draw(path: Path, sheet: Image.Image | None) -> None:
    if sheet is None:
        print("no failures: no sheet written")
        return
    import numpy as np

    from ...media.files import write_image

    write_image(path, np.asarray(sheet))
    print(f"worst failures in {path}")


def _check_cache(args: argparse.Namespace) -> None:
    """Raises InputError for a cache under which a batch of samples is not what each of them is alone."""
    from ...speed.step_cache import StepCache

    if args.cache and StepCache.parse(args.cache).kind != "taylorseer" and args.batch_size > 1:
        raise InputError(
            f"--cache {args.cache} with --batch-size {args.batch_size}: the cache would decide for a whole batch; use "
            "--batch-size 1"
        )
