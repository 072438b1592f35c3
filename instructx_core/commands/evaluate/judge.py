"""`instructx eval judge FOLDER`: outputs -> scores, by an MLLM behind an address or, of the box, by the truth.

Nothing is sent anywhere but to the address of --judge. --dry-run counts what would be sent and sends nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import InputError
from ..model import ProgressLine, add_runner_arguments, check_runner

if TYPE_CHECKING:
    from ...evaluation.judge.client import ModelJudge
    from ...evaluation.judge.pictures import Viewing
    from ...evaluation.judge.question import JudgeProtocol
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


def add_judge_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a judge, which `instructx edit --best-of` has as well."""
    group = parser.add_argument_group("judge", "an MLLM behind an address; nothing is sent anywhere else")
    group.add_argument("--judge", metavar="URL", help="address that speaks chat completions, like http://host:8000/v1")
    group.add_argument("--judge-model", metavar="NAME", help="the model to ask there")
    group.add_argument("--judge-name", metavar="NAME", help="in tables (default: the model)")
    group.add_argument(
        "--key", default="OPENAI_API_KEY", metavar="VAR", help="environment variable with the key (OPENAI_API_KEY)"
    )
    group.add_argument("--temperature", type=float, default=0.0, help="default: 0")
    group.add_argument("--frames", type=int, help="of a clip that the judge is shown (default: 8)")
    group.add_argument("--side", type=int, help="longest side of what it is shown (default: clips 512, pictures all)")
    group.add_argument("--video", choices=["frames", "native"], help="clips as frames, or as files (default: frames)")
    group.add_argument("--concurrency", type=int, default=4, help="requests at once (default: 4)")
    group.add_argument("--rpm", type=float, help="requests a minute at most (default: no limit)")
    group.add_argument("--max-requests", type=int, help="stop after so many; run again to go on")
    group.add_argument("--max-tokens", type=int, help="of a reply (default: the server's)")
    group.add_argument("--structured", choices=["auto", "off"], default="auto", help="ask for the reply's schema")


def refuse_pace_on_ray(args: argparse.Namespace) -> None:
    """Raises InputError for what one process alone can keep to."""
    given = [f"--{name.replace('_', '-')}" for name in ("rpm", "max_requests") if getattr(args, name) is not None]
    if given and args.runner == "ray":
        raise InputError(f"{given[0]} with --runner ray: each worker would count for itself; leave one of them out")


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


def asked_by(args: argparse.Namespace, protocol: JudgeProtocol, viewing: Viewing) -> ModelJudge:
    """The options of a judge as one, with the questions and the usual view of a benchmark."""
    from ...evaluation.judge.chat import ClientSettings
    from ...evaluation.judge.client import ModelJudge

    names = ("temperature", "concurrency", "rpm", "max_requests", "max_tokens", "structured", "key")
    settings = ClientSettings(
        url=args.judge or "http://nowhere.invalid/v1",
        model=args.judge_model or "none",
        name=args.judge_name,
        **{name: getattr(args, name) for name in names},
    )
    given = {name: getattr(args, name) for name in ("frames", "side", "video") if getattr(args, name) is not None}
    return ModelJudge(settings, protocol, replace(viewing, **given))
