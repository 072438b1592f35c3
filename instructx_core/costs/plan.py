"""Before a training run: memory a card by part, tokens and FLOPs a step, hours; the next smaller plan if that is full.

Numbers of training.py + options of a run -> plans, text of `instructx info PRESET --train STAGE` and of a run at paper
size. Computed, not measured: work in flight on the card's network, the allocator's losses and the scratch space of
libraries are the allowance of floor.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from ..config import InstructXConfig
from ..geometry import ClipSize
from ..training.recipes.edit import EditRecipe
from .cards import Card
from .floor import GIB, RESERVE
from .training import SampleCost, StageWeights, count_weights, sample_cost

UTILISATION = 0.4  # of the card's peak: assumed, not measured
MASTER, MOMENTS, LOW = 4, 8, 2  # bytes a parameter: fp32; AdamW's two moments in fp32; bf16
LOW_MOMENTS = 2 * (1 + 4 / 256)  # in 8 bits, with a scale in fp32 for each 256
PASSING = ("activations", "gathered")  # parts of a plan that come and go within a step


@dataclass(frozen=True, slots=True)
class StageCost:
    """What a stage costs wherever it runs. samples: by modality, of those that it trains on."""

    recipe: EditRecipe
    weights: StageWeights
    samples: dict[str, SampleCost]

    @property
    def flops(self) -> float:
        """Of a step, the mean over modalities: a step sees a global batch of one."""
        return sum(share * batch * self.samples[name].flops for name, share, batch in self.mixture())

    @property
    def tokens(self) -> float:
        """DiT tokens of a step, the mean over modalities."""
        return sum(share * batch * self.samples[name].tokens for name, share, batch in self.mixture())

    def mixture(self) -> list[tuple[str, float, int]]:
        """Modality, share of the steps, global batch."""
        recipe, clips = self.recipe, self.recipe.video_probability
        found = [("image", 1 - clips, recipe.image_batch), ("video", clips, recipe.video_batch)]
        found = [each for each in found if each[1] > 0 and each[0] in self.samples]
        whole = sum(share for _, share, _ in found)  # of one modality where the data has no other
        return [(name, share / whole, batch) for name, share, batch in found]


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """One way to spread a stage over `world` cards: bytes by part, on each card and in the memory of the host."""

    name: str
    flags: str
    card: dict[str, float]
    host: dict[str, float]

    @property
    def peak(self) -> float:
        """Bytes on a card, allowance included."""
        return sum(self.card.values()) + RESERVE

    @property
    def state(self) -> float:
        """Bytes on a card of what is always there: weights, gradients, optimiser, average."""
        return sum(value for name, value in self.card.items() if name not in PASSING)


@dataclass(frozen=True, slots=True)
class StageSample:
    """What a sample is, as far as it costs. reference: its latents go into the DiT as well."""

    size: ClipSize
    reference: bool = False


def stage_cost(
    recipe: EditRecipe,
    config: InstructXConfig,
    samples: Mapping[str, tuple[StageSample, StageSample]],
    recompute: bool = True,
) -> StageCost:
    """samples: by modality, one of middle size, whose FLOPs count, and the largest, whose activations count.

    recompute: activations are computed twice instead of being kept. Raises InputError for a size that the model cannot
    take.
    """
    found = dict[str, SampleCost]()
    for name, (middle, largest) in samples.items():
        costs = {each: sample_cost(recipe, config, each.size, recompute, each.reference) for each in {middle, largest}}
        found[name] = replace(costs[middle], activations=costs[largest].activations)
    return StageCost(recipe, count_weights(recipe, config), found)


@dataclass(frozen=True, slots=True)
class Spread:
    """How a run is spread over `world` cards, by the options of `instructx train`. micro: samples of one forward pass;
    None: the recipe's."""

    world: int
    shard: bool = False
    recompute: bool = True
    micro: int | None = None
    offload: bool = False
    low_moments: bool = False

    @property
    def flags(self) -> str:
        words = ["--shard"] * self.shard + ["--recompute"] * self.recompute
        words += [f"--micro {self.micro}"] * (self.micro is not None) + ["--offload"] * self.offload
        return " ".join(words + ["--optimizer-bits 8"] * self.low_moments)


def plan_spread(cost: StageCost, name: str, spread: Spread) -> TrainingPlan:
    """What one way of running it needs."""
    weights, recipe, ranks = cost.weights, cost.recipe, spread.world if spread.shard else 1
    micro = {"image": spread.micro or recipe.micro_image_batch, "video": spread.micro or recipe.micro_video_batch}
    activations = max(
        min(micro[name], max(1, batch // spread.world)) * cost.samples[name].activations
        for name, _, batch in cost.mixture()
    )
    moments = LOW_MOMENTS if spread.low_moments else MOMENTS
    shards = {
        "weights, trained (fp32)": MASTER * weights.trained / ranks,
        "weights, frozen (bf16)": LOW * weights.frozen / ranks,
        "gradients (fp32)": MASTER * weights.trained / ranks,
        f"AdamW ({'8 bits' if spread.low_moments else 'fp32'})": moments * weights.trained / ranks,
    }
    if recipe.ema_decay:
        shards["average (fp32)"] = MASTER * weights.trained / ranks
    gathered = 3 * LOW * weights.block + MASTER * weights.root_trained + LOW * weights.root_frozen
    beside = {"VAE (bf16)": LOW * weights.vae, "activations": activations}
    beside |= {"gathered": gathered} if ranks > 1 or spread.offload else {}
    host = {"a tensor while it is read": MASTER * weights.tensor / ranks}
    if spread.offload:
        return TrainingPlan(name, spread.flags, beside, shards | host)
    return TrainingPlan(name, spread.flags, shards | beside, host)


def training_plans(cost: StageCost, world: int) -> list[TrainingPlan]:
    """From the fastest to the smallest. Each keeps the measures of the one before it."""
    found = [
        plan_spread(cost, "replicated", Spread(world)),
        plan_spread(cost, "sharded", Spread(world, shard=True)),
        plan_spread(cost, "sharded, one sample at a time", Spread(world, shard=True, micro=1)),
        plan_spread(cost, "shards in the host's memory", Spread(world, shard=True, micro=1, offload=True)),
    ]
    smaller = [plan for before, plan in pairwise(found) if plan.peak < before.peak]
    return [found[0], *(smaller if world > 1 else ())]


def next_smaller(cost: StageCost, world: int, memory: float) -> str:
    """In words: the first plan that fits into `memory` bytes of a card."""
    fitting = next((plan for plan in training_plans(cost, world) if plan.peak <= memory), None)
    if fitting is None:
        return "no plan fits: start more processes, each with a card, or make the samples of --data smaller"
    return f"use {fitting.flags}, which needs {fitting.peak / GIB:.1f}"


def hours_text(cost: StageCost, world: int, card: Card) -> str:
    """Time of a step and of the run at the assumed share of the card's peak."""
    seconds = cost.flops / (world * card.bf16 * 1e12 * UTILISATION)
    hours = cost.recipe.num_steps * seconds / 3600
    return (
        f"  {seconds:,.1f} s a step and {hours:,.0f} hours at {UTILISATION:.0%} of the peak of {card.name} "
        "(assumed, not measured)"
    )


def part_lines(plan: TrainingPlan) -> list[str]:
    """Memory by part, of a card and of the host, for one process."""
    rows = [*plan.card.items(), ("allowance", RESERVE), ("a card", plan.peak)]
    rows += [(f"host: {name}", value) for name, value in plan.host.items()]
    return [f"  {name:<42}{value / GIB:>8.1f}" for name, value in rows]


def run_report(cost: StageCost, config: InstructXConfig, spread: Spread, card: Card | None) -> tuple[str, TrainingPlan]:
    """Text for people before step 1, and the plan of the run. card: None where its peak is not known."""
    plan = plan_spread(cost, "", spread)
    lines = stage_lines(cost, config, spread.world)
    lines += [hours_text(cost, spread.world, card)] if card else []
    lines += ["", "memory of a process by part, GiB (computed; the host's without libraries)", *part_lines(plan)]
    return "\n".join(lines), plan


def plan_report(cost: StageCost, config: InstructXConfig, world: int, card: Card | None) -> str:
    """Text for people. card: without one, no hours and nothing is chosen."""
    plans, lines = training_plans(cost, world), stage_lines(cost, config, world)
    if card is not None:
        lines.append(hours_text(cost, world, card))
    lines += ["", "memory plans, GiB a card (computed)"]
    for plan in plans:
        host = sum(plan.host.values()) * world / GIB if "--offload" in plan.flags else 0
        host_text = f"  and {host:,.0f} GiB of the host's" if host else ""
        lines.append(f"  {plan.name:<32}{plan.peak / GIB:>8.1f}  {plan.flags}{host_text}")
    chosen = next((plan for plan in plans if card is None or plan.peak <= card.memory * GIB), None)
    if card is not None:
        fits = chosen.name if chosen else "nothing fits; take more cards, or smaller samples (--clip)"
        lines.append(f"  {card.name}, {card.memory:g} GiB: {fits}")
    if chosen is not None:
        lines += ["", f"{chosen.name}, by part, GiB of a process", *part_lines(chosen)]
    return "\n".join(lines)


def stage_lines(cost: StageCost, config: InstructXConfig, world: int) -> list[str]:
    """What is trained, on samples of which cost, and what a step is."""
    recipe = cost.recipe
    cards = f"{world} card{'s' if world > 1 else ''}"
    lines = [f"{recipe.name} of {config.name} on {cards}: {recipe.description}", ""]
    lines += [f"  trained {cost.weights.trained / 1e9:.2f} B, frozen {cost.weights.frozen / 1e9:.2f} B parameters"]
    for name, share, batch in cost.mixture():
        sample = cost.samples[name]
        lines.append(
            f"  {name}: {share:.0%} of the steps, {batch} samples of {sample.tokens:,} DiT tokens, "
            f"{sample.flops / 1e12:,.1f} TFLOP and {sample.activations / GIB:.1f} GiB of activations each"
        )
    lines += [f"  a step: {cost.tokens:,.0f} tokens, {cost.flops / 1e15:,.2f} PFLOP; {recipe.num_steps:,} steps"]
    return lines
