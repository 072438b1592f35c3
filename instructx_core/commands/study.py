"""`instructx study list | run NAME | run all | report`: the paper's comparisons, run and judged (docs/study.md)."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..study.experiments import Experiment
    from ..study.schedule import Scale

BUDGET = 24.0  # CPU hours, of everything at the scale of the shipped model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["list", "run", "report"])
    parser.add_argument("experiment", nargs="*", metavar="NAME", help="experiments, or all (default)")
    parser.add_argument(
        "--scale",
        default="tiny",
        metavar="SCALE",
        help="tiny (default), shapes, rehearsal, paper: where it runs and what it starts from (docs/study.md)",
    )
    parser.add_argument("--output", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    parser.add_argument("--to", type=Path, default=Path("study"), help="report: folder to write (default: study)")
    parser.add_argument("--processes", type=int, default=1, help="run: how many runs at once (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="run: CPU threads of a run (default: 1)")
    parser.add_argument("--workers", type=int, default=1, help="run: processes that draw samples (default: 1)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="run: of the models (default: cpu)")
    parser.add_argument("--estimate", action="store_true", help="run: print the cost and do nothing")
    parser.add_argument("--gpu", default="h100", help="--scale paper: card (default: h100)")
    parser.add_argument("--gpus", type=int, default=8, help="--scale paper: how many of them (default: 8)")


def run(args: argparse.Namespace) -> int:
    """Returns the exit code; raises InputError on bad input."""
    from ..study.scales import find_scale
    from ..study.schedule import find_experiments

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in ("processes", "threads", "workers", "gpus"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} is {getattr(args, name)}; use at least 1")
    scale, experiments = find_scale(args.scale), find_experiments(args.experiment)
    if args.action == "list":
        return _list(scale, experiments, args.output)
    if scale.name == "paper":
        if args.action == "report":
            raise InputError("--scale paper is a dry run and has nothing to report; use --scale tiny")
        return _try(scale, experiments, args)
    return _report(scale, args) if args.action == "report" else _run(scale, experiments, args)


def _list(scale: Scale, experiments: list[Experiment], output: Path) -> int:
    from ..study.findings import planned
    from ..study.queue import done_of
    from ..study.schedule import all_runs

    for experiment in experiments:
        done, count = done_of(all_runs(scale, [experiment]), output)
        print(f"{experiment.name:<12}{experiment.title} ({experiment.where}); {done} of {count} runs done")
        for each, reach in planned(scale, experiment):
            blind = "" if reach <= each.smallest else f", but {each.smallest:g} matters: it may not tell them apart"
            print(f"    {each.first} / {each.second}, {each.measure}, {each.group}: finds {reach:.3f}{blind}")
    return 0


def _run(scale: Scale, experiments: list[Experiment], args: argparse.Namespace) -> int:
    """Returns 1 when a signal stopped it, or another command has a part of it."""
    import torch

    from ..media.outputs import check_folder
    from ..study.cost import calibrate, forecast
    from ..study.findings import finding_of
    from ..study.queue import run_queue
    from ..study.scales import START
    from ..study.schedule import all_runs
    from ..study.start import make_start
    from ..training.machine import find_machine

    check_folder(args.output / "study")
    torch.set_num_threads(args.threads)
    machine = find_machine(args.device, args.workers)
    if scale.start == START and not make_start(scale, args.output, machine):
        return 1
    hours = forecast(scale, experiments, calibrate(scale, args.output, machine), args.output)
    for name, each in hours.items():
        print(f"{name:<12}{each:>8.2f} CPU hours left")
    total = sum(hours.values())
    print(f"{'together':<12}{total:>8.2f} CPU hours, by the time of a few steps (of {BUDGET:g})")
    if args.estimate:
        return 0
    whole = run_queue(all_runs(scale, experiments), args.output, machine, args.processes)
    for experiment in experiments:
        print(f"{experiment.name:<12}{finding_of(scale, experiment, args.output).verdict}")
    return 0 if whole else 1


def _report(scale: Scale, args: argparse.Namespace) -> int:
    from ..media.outputs import check_folder
    from ..study.report import PAGE, write_study

    check_folder(args.to)
    for finding in write_study(scale, args.output, args.to):
        state = f"{len(finding.missing)} runs missing" if finding.missing else finding.verdict
        print(f"{finding.experiment.name:<12}{state}")
    print(f"wrote {args.to / PAGE}")
    return 0


def _try(scale: Scale, experiments: list[Experiment], args: argparse.Namespace) -> int:
    from ..costs.cards import find_card
    from ..study.paper_size import tried_lines, try_runs

    card = find_card(args.gpu)
    print("\n".join(tried_lines(try_runs(scale, experiments, card, args.gpus), card, args.gpus)))
    print(
        "to train them: instructx train takes the paper's stages (docs/training.md) with the public sets of "
        "docs/data.md, under torchrun with --shard; t5, qformer and metaquery do not start from public files yet"
    )
    return 0
