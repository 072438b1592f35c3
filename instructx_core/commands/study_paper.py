"""`instructx study run --scale paper`: a dry run, or with --data the training of these runs from public weights.

Beside study.py. A run of this size is shared by all processes of torchrun, as one of `instructx train stage1` is; it is
measured by the benchmarks of `instructx eval`, not by the study.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from typing import TYPE_CHECKING

from ..errors import InputError
from .train import add_base_arguments, base_machine

if TYPE_CHECKING:
    from pathlib import Path

    from ..study.experiments import Experiment
    from ..study.schedule import Run, Scale

START = (
    "starts: queries, metaquery and qformer from the public files of Wan2.1-14B and Qwen2.5-VL-3B, what they add as "
    "noise (BLIP-2's own Q-Former has 32 tokens and reads another width); t5 from Wan and umT5-XXL, so in an "
    "--output of its own, with --part text_encoder=FILE and --part tokenizer=FILE"
)
DESIGNS = ("t5", "qformer", "metaquery", "queries")
NEXT = (
    "to train them: torchrun --nproc_per_node {gpus} -m instructx_core study run NAME --scale paper --data SPEC "
    "--base FOLDER --shard --recompute (docs/data.md has the public sets); then `instructx study export RUN --scale "
    "paper --to FOLDER` and the benchmarks of docs/evaluation.md"
)


def add_paper_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("--scale paper")
    group.add_argument("--gpu", default="h100", help="dry run: card (default: h100)")
    group.add_argument("--gpus", type=int, default=8, help="dry run: how many of them (default: 8)")
    group.add_argument("--data", metavar="SPEC", help="train on this source; without it, nothing is trained")
    group.add_argument("--design", nargs="+", choices=DESIGNS, help="train: runs of these designs alone")
    add_base_arguments(group)
    parser.set_defaults(tensorboard=False)


def try_paper(scale: Scale, experiments: list[Experiment], args: argparse.Namespace) -> int:
    """Builds, counts and prints."""
    from ..costs.cards import find_card
    from ..study.paper_size import tried_lines, try_runs

    card = find_card(args.gpu)
    print("\n".join(tried_lines(try_runs(scale, experiments, card, args.gpus), card, args.gpus)))
    print(START)
    print(NEXT.format(gpus=args.gpus))
    return 0


def train_paper(scale: Scale, experiments: list[Experiment], args: argparse.Namespace) -> int:
    """Trains what is missing, one run after the other, each by all processes. Returns 1 when a signal stopped it.

    Raises InputError for runs that start from different files, before anything is read.
    """
    from ..study.schedule import all_runs
    from ..training.distributed import shutdown
    from ..training.runs.chain import is_done
    from ..training.runs.run import recipe_source, train

    runs = [run for run in all_runs(scale, experiments) if run.recipe.design in (args.design or DESIGNS)]
    runs = [on_data(run, args.data, args.micro) for run in runs]
    check_one_start(runs)
    machine = base_machine(args)
    log = logging.getLogger("instructx")
    try:
        for run in runs:
            if is_done(args.output, run.recipe):
                log.info("%s: there already", run.name)
                continue
            log.info("%s: %s", run.name, run.recipe.description)
            if train(run.recipe, args.output, None, machine, recipe_source(run.recipe)) is None:
                return 1
    finally:
        shutdown()
    return 0


def on_data(run: Run, spec: str, micro: int | None) -> Run:
    """The run on this source; its name stays that of the definition. micro: samples of one forward pass."""
    changes = {"data": spec, "micro_image_batch": micro, "micro_video_batch": micro}
    known = {name: value for name, value in changes.items() if value is not None}
    return dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, **known))


def check_one_start(runs: list[Run]) -> None:
    """Raises InputError where some start from umT5 and others from Qwen2.5-VL."""
    of_text = sorted(run.name for run in runs if run.recipe.design == "t5")
    if 0 < len(of_text) < len(runs):
        raise InputError(
            f"{len(of_text)} of {len(runs)} runs ({of_text[0]}) start from umT5-XXL, the others from Qwen2.5-VL; give "
            "--design t5, and in another --output and with its files the others: --design queries metaquery qformer"
        )


def export_variant(scale: Scale, names: list[str], output: Path, target: Path) -> int:
    """The checkpoint folder of one run. Raises InputError for a run that the scale does not have."""
    from ..study.experiments import EXPERIMENTS
    from ..study.schedule import all_runs
    from ..training.runs.export import export_run

    runs = {run.name: run for run in all_runs(scale, list(EXPERIMENTS.values()))}
    if len(names) != 1 or names[0] not in runs:
        raise InputError(
            f"no run {' '.join(names) or 'was named'}; `instructx study list --runs --scale {scale.name}` names them, "
            "and one is exported at a time"
        )
    export_run(output, target, runs[names[0]].recipe)
    return 0
