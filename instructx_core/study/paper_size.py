"""`--scale paper`: the same experiments at the paper's sizes, tried without weights: shapes, parameters, cards, hours.

Each variant is built on the meta device, and its forward and backward pass run on tensors without values; hours follow
from FLOPs at an assumed share of a card's peak (costs/). Nothing is trained: commands/study_paper.py does that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch

from ..config import InstructXConfig, preset
from ..costs.cards import Card
from ..costs.count import fake_tensors
from ..costs.measure import count, empty_inputs, empty_texts, lora_parameters
from ..costs.plan import UTILISATION, StageCost, training_plans
from ..costs.training import SampleCost, count_weights, sample_cost, with_layers
from ..encoder.designs import build_encoder
from ..errors import InputError
from ..geometry import ClipSize, mllm_grid
from .experiments import Experiment
from .schedule import Run, Scale, all_runs

GIB = 2**30


@dataclass(frozen=True, slots=True)
class TriedRun:
    """A run of the paper's size: parameters that it trains, of its encoder, of the connector or Q-Former; hours of
    one card; bytes a card of the first plan that fits, None: none."""

    run: Run
    trained: int
    encoder: int
    connector: int
    hours: float
    bytes: float | None


def try_runs(scale: Scale, experiments: Sequence[Experiment], card: Card, world: int) -> list[TriedRun]:
    """Every run of these experiments. Raises InputError where a variant's context has another shape than its config
    says."""
    costs: dict[str, SampleCost] = {}
    tried: dict[str, TriedRun] = {}
    for run in all_runs(scale, experiments):
        config = run.recipe.model_config(preset(run.recipe.preset))
        key = f"{config.to_json()} {run.recipe.trained_groups()} {run.recipe.video_probability}"
        if key not in tried:
            tried[key] = _tried(run, config, costs, card, world)
    found = []
    for run in all_runs(scale, experiments):
        config = run.recipe.model_config(preset(run.recipe.preset))
        like = tried[f"{config.to_json()} {run.recipe.trained_groups()} {run.recipe.video_probability}"]
        share = run.recipe.num_steps / like.run.recipe.num_steps
        found.append(dataclasses.replace(like, run=run, hours=like.hours * share))
    return found


def _tried(run: Run, config: InstructXConfig, costs: dict[str, SampleCost], card: Card, world: int) -> TriedRun:
    recipe, usual = run.recipe, config.sampling
    sizes = {
        "image": ClipSize(usual.width, usual.height, 1),
        "video": ClipSize(usual.width, usual.height, usual.frames),
    }
    samples = {}
    for modality, wanted in (("image", recipe.video_probability < 1), ("video", recipe.video_probability > 0)):
        if wanted:
            key = f"{config.to_json()} {modality} {recipe.trained_groups()}"
            if key not in costs:
                check_context(with_layers(config, 1, 2, 1, 1), sizes[modality], modality)
                costs[key] = sample_cost(recipe, config, sizes[modality], True)
            samples[modality] = costs[key]
    cost = StageCost(recipe, count_weights(recipe, config), samples)
    fits = next((plan for plan in training_plans(cost, world) if plan.peak <= card.memory * GIB), None)
    hours = recipe.num_steps * cost.flops / (card.bf16 * 1e12 * UTILISATION) / 3600
    bytes_a_card = None if fits is None else fits.peak
    return TriedRun(run, cost.weights.trained, *encoder_parameters(config), hours, bytes_a_card)


@cache  # most runs have one of a few encoders
def encoder_parameters(config: InstructXConfig) -> tuple[int, int]:
    """Of the encoder with its LoRA, and of its connector or Q-Former."""
    with torch.device("meta"):
        encoder = build_encoder(config)
        lora = 0 if encoder.mllm is None or not config.lora.rank else lora_parameters(encoder.mllm, config)
    return count(encoder) + lora, 0 if encoder.connector is None else count(encoder.connector)


def check_context(config: InstructXConfig, clip: ClipSize, modality: str) -> None:
    """Raises InputError where the encoder gives the DiT another context than the config says. Layers are all alike: a
    few are enough."""
    grid = mllm_grid(clip.frames, clip.height, clip.width, config, modality)
    tokens = grid[0] * grid[1] * grid[2] // config.mllm.vision.spatial_merge_size**2
    with fake_tensors(torch.bfloat16), torch.no_grad():
        encoder = build_encoder(config).requires_grad_(False)
        if encoder.sees_pictures:
            inputs = empty_inputs(config, grid, modality, tokens).to(dtype=torch.bfloat16)
            context = encoder(inputs, torch.empty(1, tokens, config.mllm.hidden_size))
        else:
            context = encoder(empty_texts(config))
        found, wanted = tuple(context.shape), (1, config.context_length(modality), config.denoiser.context_dim)
    if found != wanted:
        raise InputError(
            f"{config.name}, {config.design.kind}: the context of {modality} edits is {found}, not {wanted}"
        )


def tried_lines(tried: Sequence[TriedRun], card: Card, world: int) -> list[str]:
    """Text for people."""
    lines = [
        f"{'run':<34}{'trained':>10}{'encoder':>10}{'connector':>11}{'steps':>8}{'card hours':>12}{'GiB a card':>12}"
    ]
    for each in tried:
        fits = "none fits" if each.bytes is None else f"{each.bytes / GIB:.0f}"
        lines.append(
            f"{each.run.name:<34}{each.trained / 1e9:>8.2f} B{each.encoder / 1e9:>8.2f} B"
            f"{each.connector / 1e9:>9.3f} B"
            f"{each.run.recipe.num_steps:>8,}{each.hours:>12,.0f}{fits:>12}"
        )
    total = sum(each.hours for each in tried)
    lines.append(
        f"{len(tried)} runs, {total:,.0f} hours of one {card.name}, {total / world / 24:,.1f} days on {world}; "
        f"computed from FLOPs at {UTILISATION:.0%} of the card's peak, not measured"
    )
    return lines
