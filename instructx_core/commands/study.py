"""`instructx study list | run NAME | run all | report | export RUN`: the paper's comparisons (docs/study.md).

study_paper.py has what is done at the paper's size.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .study_paper import add_paper_arguments, export_variant, train_paper, try_paper

if TYPE_CHECKING:
    from ..study.experiments import Experiment
    from ..study.running import Workplace
    from ..study.schedule import Run, Scale

BUDGET = 24.0  # CPU hours, of everything at the scale of the shipped model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["list", "run", "report", "export"])
    parser.add_argument("experiment", nargs="*", metavar="NAME", help="experiments, or all (default); export: a run")
    parser.add_argument(
        "--scale",
        default="tiny",
        metavar="SCALE",
        help="tiny (default), shapes, rehearsal, paper: where it runs and what it starts from (docs/study.md)",
    )
    parser.add_argument("--output", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    parser.add_argument(
        "--to", type=Path, default=Path("study"), help="report, export: folder to write (default: study)"
    )
    parser.add_argument("--runs", action="store_true", help="list: also the runs of each experiment by name")
    parser.add_argument(
        "--runner",
        choices=["local", "ray"],
        default="local",
        help="run: where; local (default): this machine, under torchrun each of its processes; ray: the machines of a "
        "Ray cluster, which all see --output",
    )
    parser.add_argument(
        "--processes",
        type=int,
        help="run: how many runs at once (default: 1; ray: one a GPU, of a cluster without GPUs one a machine)",
    )
    parser.add_argument("--threads", type=int, default=1, help="run: CPU threads of a run (default: 1)")
    parser.add_argument("--workers", type=int, default=1, help="run: processes that draw samples (default: 1)")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="run: of the models (default: cpu; paper: a GPU)")
    parser.add_argument("--estimate", action="store_true", help="run: print the cost and do nothing")
    add_paper_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Returns the exit code; raises InputError on bad input."""
    from ..study.scales import find_scale
    from ..study.schedule import find_experiments

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in ("processes", "threads", "workers", "gpus", "micro"):
        if (count := getattr(args, name)) is not None and count < 1:
            raise InputError(f"--{name} is {count}; use at least 1")
    scale = find_scale(args.scale)
    if args.action == "export":
        return export_variant(scale, args.experiment, args.output, args.to)
    experiments = find_experiments(args.experiment)
    if args.action == "list":
        return _list(scale, experiments, args)
    if scale.name == "paper":
        if args.action == "report":
            raise InputError(
                "runs of --scale paper are measured by the benchmarks of `instructx eval`, which writes their reports; "
                "use --scale tiny here"
            )
        return (train_paper if args.data else try_paper)(scale, experiments, args)
    if args.data or args.base or args.part or args.shard or args.design:
        raise InputError(
            f"--data, --base, --part, --shard and --design are for --scale paper; {scale.name} has its own"
        )
    return _report(scale, args) if args.action == "report" else _run(scale, experiments, args)


def _list(scale: Scale, experiments: list[Experiment], args: argparse.Namespace) -> int:
    from ..study.findings import planned
    from ..study.records import done_of
    from ..study.schedule import all_runs

    for experiment in experiments:
        runs = all_runs(scale, [experiment])
        done, count = done_of(runs, args.output)
        print(f"{experiment.name:<12}{experiment.title} ({experiment.where}); {done} of {count} runs done")
        for each, reach in planned(scale, experiment):
            blind = "" if reach <= each.smallest else f", but {each.smallest:g} matters: it may not tell them apart"
            blind = blind if reach < float("inf") else ": no test sample of this world is one"
            print(f"    {each.first} / {each.second}, {each.measure}, {each.group}: finds {reach:.3f}{blind}")
        for run in runs if args.runs else ():
            print(f"    {run.name}: {run.recipe.description}")
    return 0


def _run(scale: Scale, experiments: list[Experiment], args: argparse.Namespace) -> int:
    """Returns 1 when a signal stopped it, or another command has a part of it."""
    import torch

    from ..media.outputs import check_folder
    from ..study.calibration import calibrate
    from ..study.cost import forecast
    from ..study.findings import finding_of
    from ..study.groups import find_groups
    from ..study.locks import wait_for_folder
    from ..study.records import is_measured
    from ..study.running import Workplace
    from ..study.scales import START
    from ..study.schedule import all_runs
    from ..study.start import check_start, make_start
    from ..training.machine import find_machine

    check_folder(args.output / "study")
    torch.set_num_threads(args.threads)
    machine = find_machine(args.device or "cpu", args.workers)  # before it leaves its rank, which names its GPU
    rank = _leave_ranks(args)
    runs = all_runs(scale, experiments)
    with wait_for_folder(args.output / "pools"):
        if scale.start == START and not make_start(scale, args.output, machine):
            return 1
        check_start(scale, args.output)
        find_groups(runs, args.output)
        times = calibrate([run for run in runs if not is_measured(run, args.output)], args.output, machine)
        if not rank:
            _print_cost(forecast(scale, experiments, times, args.output))
    if args.estimate:
        return 0
    whole = _do(runs, Workplace(args.output, machine, times), args)
    for experiment in experiments if not rank else ():
        print(f"{experiment.name:<12}{finding_of(scale, experiment, args.output).verdict}")
    return 0 if whole else 1


def _leave_ranks(args: argparse.Namespace) -> int:
    """The rank under torchrun. Raises InputError for options that do not go with it."""
    import os

    from ..study.queue import leave_ranks

    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and (args.runner != "local" or args.processes):
        raise InputError("torchrun starts the processes; leave out --processes and --runner, or torchrun")
    return leave_ranks(args.output)


def _do(runs: list[Run], place: Workplace, args: argparse.Namespace) -> bool:
    from ..study.queue import run_queue

    if args.runner == "local":
        return run_queue(runs, place, args.processes or 1)
    from ..study.cluster import study_on_ray

    return study_on_ray(runs, place, args.processes)


def _print_cost(hours: dict[str, float]) -> None:
    for name, each in hours.items():
        print(f"{name:<12}{each:>8.2f} CPU hours left")
    total = sum(hours.values())
    print(f"{'together':<12}{total:>8.2f} CPU hours, by steps timed on this machine (of {BUDGET:g})", flush=True)


def _report(scale: Scale, args: argparse.Namespace) -> int:
    from ..media.outputs import check_folder
    from ..study.report import PAGE, write_study

    check_folder(args.to)
    for finding in write_study(scale, args.output, args.to):
        state = f"{len(finding.missing)} runs missing" if finding.missing else finding.verdict
        print(f"{finding.experiment.name:<12}{state}")
    print(f"wrote {args.to / PAGE}")
    return 0
