"""`instructx eval judge FOLDER`: outputs -> scores, by an MLLM behind an address or, of the box, by the truth.

Nothing is sent anywhere but to the address of --judge. --dry-run counts what would be sent and sends nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import InputError
from ..judge_options import add_judge_arguments, asked_by, refuse_pace_on_ray
from ..model import ProgressLine, add_runner_arguments, check_runner

if TYPE_CHECKING:
    from ...evaluation.judge.client import ModelJudge
    from ...evaluation.judge.run import Judge


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the evaluation, with outputs of editors")
    parser.add_argument("--editors", nargs="+", metavar="NAME", help="whose outputs (default: all)")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N items of each kind only")
    parser.add_argument("--samples", type=int, default=1, help="times that each output is judged (default: 1)")
    add_runner_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="count items, pictures and tokens; send nothing")
    add_judge_arguments(parser)
    parser.add_argument("--prompts", type=Path, metavar="DIR", help="checkout of the benchmark's repository")


def run(args: argparse.Namespace) -> int:
    from ...evaluation.benchmarks.truth import TruthJudge
    from ...evaluation.items import first_of_each
    from ...evaluation.judge.budget import estimate
    from ...evaluation.judge.cluster import judge_on_ray
    from ...evaluation.judge.run import judge_outputs
    from ...evaluation.run_folder import RunFolder
    from ...evaluation.table import score_table

    folder = RunFolder(args.folder)
    name, items = str(folder.benchmark()["name"]), first_of_each(folder.items(), args.limit)
    editors = args.editors or folder.editors()
    unknown = sorted(set(editors) - set(folder.editors()))
    if unknown or not editors:
        raise InputError(f"{args.folder}: no outputs of {', '.join(unknown) or 'any editor'}; edit the items first")
    check_runner(args)
    make: Callable[[], Judge] = TruthJudge
    if args.judge is not None or args.dry_run or name != "box":
        make, judge = partial(model_judge, args, name), model_judge(args, name)
        if args.dry_run:
            print(estimate(folder, judge, editors, items, args.samples))
            return 0
        refuse_pace_on_ray(args)
        folder.keep_judge(judge.name, judge.settings)
    progress = ProgressLine("judged")
    if args.runner == "ray":
        scores = judge_on_ray(folder, make, editors, items, args.samples, progress, args.workers)
    else:
        scores = judge_outputs(folder, make(), editors, items, args.samples, progress)
    print(score_table(items, scores))
    return 0


def model_judge(args: argparse.Namespace, benchmark: str) -> ModelJudge:
    """The judge that the options name. Raises InputError where one is missing."""
    from ...evaluation.benchmarks.known import benchmark_named, protocol_of

    check_judge_named(args)
    return asked_by(args, protocol_of(benchmark, args.prompts), benchmark_named(benchmark).viewing)


def check_judge_named(args: argparse.Namespace) -> None:
    """Raises InputError where there is nobody to ask."""
    if args.judge is None and not args.dry_run:
        raise InputError("no judge; give --judge URL and --judge-model NAME (or --dry-run to count first)")
    if not args.judge_model and not args.dry_run:
        raise InputError("--judge needs --judge-model: the name of the model to ask there")
