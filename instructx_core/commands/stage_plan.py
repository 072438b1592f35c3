"""Before step 1 of a stage of the paper: what it needs on this machine, from the samples that it will train on.

Between `instructx train` and costs/plan.py. The largest sample decides what a card must hold, the one of middle size
stands for what a step computes.
"""

from __future__ import annotations

import argparse
import logging
import os
from typing import TYPE_CHECKING

import torch

from ..config import preset
from ..costs.cards import Card, card_of
from ..costs.floor import GIB
from ..costs.plan import Spread, StageCost, StageSample, TrainingPlan, next_smaller, run_report, stage_cost
from ..errors import InputError
from ..geometry import ClipSize
from ..training.edit_pools import stage_selections
from ..training.recipes.edit import EditRecipe

if TYPE_CHECKING:
    from ..data.cache import Selection
    from ..data.source import EditSource

logger = logging.getLogger("instructx")


def this_card(device: torch.device) -> tuple[Card | None, float]:
    """The card's figures, where the table has them, and its memory in GiB; infinite on a CPU."""
    if device.type != "cuda":
        return None, float("inf")
    about = torch.cuda.get_device_properties(device)
    memory = about.total_memory / GIB
    return card_of(about.name, memory), memory


def stage_samples(recipe: EditRecipe, source: EditSource) -> dict[str, tuple[StageSample, StageSample]]:
    """By modality: the sample of middle size, as often as each is drawn, and the largest."""
    found: dict[str, list[Selection]] = {}
    for each in stage_selections(recipe, source):
        found.setdefault(each.bucket.modality, []).append(each)
    chosen = {}
    for modality, some in found.items():
        some.sort(key=lambda each: (each.bucket.pixels, each.bucket.reference))
        middle, seen = sum(each.count for each in some) / 2, 0
        typical = some[-1]
        for each in some:
            seen += each.count
            if seen >= middle:
                typical = each
                break
        chosen[modality] = tuple(
            StageSample(ClipSize(b.width, b.height, b.frames), b.reference and recipe.source_latents)
            for b in (typical.bucket, some[-1].bucket)
        )
    return chosen


def announce_plan(recipe: EditRecipe, source: EditSource, device: torch.device, args: argparse.Namespace) -> None:
    """Says what the run needs. Raises InputError where it does not fit into the card's memory."""
    config, world = recipe.model_config(preset(recipe.preset)), int(os.environ.get("WORLD_SIZE", "1"))
    cost = stage_cost(recipe, config, stage_samples(recipe, source), args.recompute)
    card, memory = this_card(device)
    spread = Spread(world, args.shard, args.recompute, args.micro, args.offload, args.optimizer_bits == 8)
    text, plan = run_report(cost, config, spread, card)
    logger.info("%s", text)
    check_memory(cost, plan, world, memory)


def check_memory(cost: StageCost, plan: TrainingPlan, world: int, memory: float) -> None:
    """memory: GiB of a card. Raises InputError where what is always there does not fit, warns where a sample may."""
    if plan.peak <= memory * GIB:
        return
    name, least, remedy = cost.recipe.name, plan.state / GIB, next_smaller(cost, world, memory * GIB)
    if least > memory:
        raise InputError(f"{name} needs {least:.1f} GiB before any sample, a card has {memory:.1f}; {remedy}")
    logger.warning("about %.1f GiB on a card of %.1f: it may not fit; %s", plan.peak / GIB, memory, remedy)
