"""`instructx eval shapes|world`: the benchmark table with bootstrap intervals, as text and JSON; the worst failures.

shapes: the procedural world, version 1, of which the shipped model is. world: version 2, and the table of targets.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .model import ProgressLine, add_model_arguments, add_sampling_arguments, pipeline_of

if TYPE_CHECKING:
    from PIL import Image

    from ..pipeline import InstructXPipeline


STAGES = {
    "metrics": (".evaluate.metrics", "what can be measured of outputs without a judge"),
    "study-form": (".evaluate.study_form", "a page on which people rate outputs of several editors, blind"),
    "study-result": (".evaluate.study_result", "means, agreement and differences out of the raters' files"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from ..evaluation.groups import GROUPS, MANNERS

    benchmarks = parser.add_subparsers(dest="benchmark", required=True, metavar="WHAT")
    shapes = benchmarks.add_parser("shapes", help="the procedural world, version 1, of the shipped model")
    _add_common(shapes, images=500, clips=200)
    world = benchmarks.add_parser(
        "world", help="the procedural world, version 2, and real photos: the table of targets"
    )
    _add_common(world, images=600, clips=400)
    world.add_argument("--groups", nargs="+", metavar="NAME", help=f"some of {', '.join(GROUPS)} (default: all)")
    look = world.add_argument_group("look of images, clips, zero-shot and no-ops")
    look.add_argument("--size", help="HxW, multiples of 16 from 64 on (default: 64x64)")
    look.add_argument("--finish", choices=["flat", "photo"], help="default: either, as drawn")
    look.add_argument(
        "--manner",
        choices=list(MANNERS),
        help="usual: as training says it; plain: English, known wordings, no typos; test: all (default: usual)",
    )
    for name, (module, text) in STAGES.items():
        importlib.import_module(module, __package__).add_arguments(benchmarks.add_parser(name, help=text))


def _add_common(parser: argparse.ArgumentParser, images: int, clips: int) -> None:
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


def run(args: argparse.Namespace) -> int:
    if args.benchmark in STAGES:
        return importlib.import_module(STAGES[args.benchmark][0], __package__).run(args)
    from ..media.outputs import output_kind

    if not args.json.absolute().parent.is_dir():
        raise InputError(f"{args.json}: the folder {args.json.parent} does not exist; create it first")
    if args.sheet is not None and output_kind(args.sheet) != "image":
        raise InputError(f"{args.sheet}: the sheet is a picture; use .png")
    _check_cache(args)
    partial = args.json.with_name(args.json.name + ".partial.jsonl")
    measure = _world if args.benchmark == "world" else _shapes
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


Measured = tuple["InstructXPipeline", Any, Callable[[Any, Any], "Image.Image | None"]]


def _common(args: argparse.Namespace) -> dict[str, Any]:
    names = ("images", "clips", "steps", "guidance", "seed", "batch_size")
    return {name: getattr(args, name) for name in names}


def _shapes(args: argparse.Namespace, partial: Path) -> Measured:
    from ..evaluation.shapes import EvalSettings, run_benchmark, worst_failures

    settings = EvalSettings(**_common(args))
    pipe = pipeline_of(args)
    return pipe, run_benchmark(pipe, settings, partial, args.resume, ProgressLine("sample")), worst_failures


def _world(args: argparse.Namespace, partial: Path) -> Measured:
    from ..evaluation.groups import GROUPS, SampleLook, build_groups
    from ..evaluation.world import WorldSettings, run_world, worst_failures

    look = SampleLook(_size(args.size), args.finish, args.manner)
    settings = WorldSettings(**_common(args), groups=tuple(args.groups or GROUPS), look=look)
    build_groups(settings.groups, look)  # what is wrong is said before a model is read
    pipe = pipeline_of(args)
    return pipe, run_world(pipe, settings, partial, args.resume, ProgressLine("sample")), worst_failures


def _size(text: str | None) -> tuple[int, int]:
    if text is None:
        return 64, 64
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if found is None:
        raise InputError(f"size {text!r} is no size; use height x width, like 64x64")
    return int(found[1]), int(found[2])


def _write(path: Path, numbers: dict[str, Any]) -> None:
    from ..media.outputs import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


def _draw(path: Path, sheet: Image.Image | None) -> None:
    if sheet is None:
        print("no failures: no sheet written")
        return
    import numpy as np

    from ..media.files import write_image

    write_image(path, np.asarray(sheet))
    print(f"worst failures in {path}")


def _check_cache(args: argparse.Namespace) -> None:
    """Raises InputError for a cache under which a batch of samples is not what each of them is alone."""
    from ..speed.step_cache import StepCache

    if args.cache and StepCache.parse(args.cache).kind != "taylorseer" and args.batch_size > 1:
        raise InputError(
            f"--cache {args.cache} with --batch-size {args.batch_size}: the cache would decide for a whole batch; use "
            "--batch-size 1"
        )
