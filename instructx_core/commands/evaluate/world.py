"""`instructx eval world`: the procedural world, version 2, and real photos: the table of targets."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from ...errors import InputError
from ..model import ProgressLine, pipeline_of
from .benchmark_run import BenchmarkRun, add_common, common, run_drawn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from ...evaluation.groups import GROUPS, MANNERS

    add_common(parser, images=600, clips=400)
    parser.add_argument("--groups", nargs="+", metavar="NAME", help=f"some of {', '.join(GROUPS)} (default: all)")
    look = parser.add_argument_group("look of images, clips, zero-shot and no-ops")
    look.add_argument("--size", help="HxW, multiples of 16 from 64 on (default: 64x64)")
    look.add_argument("--finish", choices=["flat", "photo"], help="default: either, as drawn")
    look.add_argument(
        "--manner",
        choices=list(MANNERS),
        help="usual: as training says it; plain: English, known wordings, no typos; test: all (default: usual)",
    )


def run(args: argparse.Namespace) -> int:
    return run_drawn(args, _measure)


def _measure(args: argparse.Namespace, partial: Path) -> BenchmarkRun:
    from ...evaluation.groups import GROUPS, SampleLook, build_groups
    from ...evaluation.world import WorldSettings, run_world, worst_failures

    look = SampleLook(_size(args.size), args.finish, args.manner)
    settings = WorldSettings(**common(args), groups=tuple(args.groups or GROUPS), look=look)
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
