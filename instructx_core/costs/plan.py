"""Before a training run: memory a card by part, tokens and FLOPs a step, hours; the next smaller plan if that is full.

Numbers of training.py + options of a run -> plans, text of `instructx info PRESET --train STAGE` and of a run at paper
size. Computed, not measured: work in flight on the card's network, the allocator's losses and the scratch space of
libraries are the allowance of floor.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from ..config import InstructXConfig
from ..geometry import ClipSize
from ..training.recipes.edit import EditRecipe
from .cards import Card
from .floor import GIB, RESERVE
from .training import SampleCost, StageWeights, count_weights, sample_cost

UTILISATION = 0.4  # of the card's peak: assumed, not measured
MASTER, MOMENTS, LOW = 4, 8, 2  # bytes a parameter: fp32; AdamW's two moments in fp32; bf16


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
        return [each for each in found if each[1] > 0]


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


def stage_cost(recipe: EditRecipe, config: InstructXConfig, clip: ClipSize, picture: ClipSize) -> StageCost:
    """Of samples of these sizes, with activations computed twice. Raises InputError for one the model cannot take."""
    sizes = {"image": picture, "video": clip}
    wanted = ["image"] * (recipe.video_probability < 1) + ["video"] * (recipe.video_probability > 0)
    samples = {name: sample_cost(recipe, config, sizes[name], True) for name in wanted}
    return StageCost(recipe, count_weights(recipe, config), samples)


def training_plans(cost: StageCost, world: int) -> list[TrainingPlan]:
    """From the fastest to the smallest. Each keeps the measures of the one before it."""
    weights, recipe = cost.weights, cost.recipe
    micro = {"image": recipe.micro_image_batch, "video": recipe.micro_video_batch}
    one = max(sample.activations for sample in cost.samples.values())
    many = max(
        min(micro[name], max(1, batch // world)) * cost.samples[name].activations for name, _, batch in cost.mixture()
    )

    def plan(name: str, flags: str, ranks: int, activations: float, offload: bool) -> TrainingPlan:
        shards = {
            "weights, trained (fp32)": MASTER * weights.trained / ranks,
            "weights, frozen (bf16)": LOW * weights.frozen / ranks,
            "gradients (fp32)": MASTER * weights.trained / ranks,
            "AdamW (fp32)": MOMENTS * weights.trained / ranks,
        }
        if recipe.ema_decay:
            shards["average (fp32)"] = MASTER * weights.trained / ranks
        gathered = 3 * LOW * weights.block + MASTER * weights.root_trained + LOW * weights.root_frozen
        beside = {"VAE (bf16)": LOW * weights.vae, "activations": activations}
        beside |= {"gathered": gathered} if ranks > 1 or offload else {}
        return TrainingPlan(name, flags, beside if offload else shards | beside, shards if offload else {})

    found = [
        plan("replicated", "--recompute", 1, many, False),
        plan("sharded", "--shard --recompute", world, many, False),
        plan("sharded, one sample at a time", "--shard --recompute --micro 1", world, one, False),
        plan("shards in the host's memory", "--shard --recompute --micro 1 --offload", world, one, True),
    ]
    smaller = [plan for before, plan in pairwise(found) if plan.peak < before.peak]
    return [found[0], *(smaller if world > 1 else ())]


def plan_report(cost: StageCost, config: InstructXConfig, world: int, card: Card | None) -> str:
    """Text for people. card: without one, no hours and nothing is chosen."""
    recipe, plans = cost.recipe, training_plans(cost, world)
    lines = [f"{recipe.name} of {config.name} on {world} card{'s' if world > 1 else ''}: {recipe.description}", ""]
    lines += [f"  trained {cost.weights.trained / 1e9:.2f} B, frozen {cost.weights.frozen / 1e9:.2f} B parameters"]
    for name, share, batch in cost.mixture():
        sample = cost.samples[name]
        lines.append(
            f"  {name}: {share:.0%} of the steps, {batch} samples of {sample.tokens:,} DiT tokens, "
            f"{sample.flops / 1e12:,.1f} TFLOP and {sample.activations / GIB:.1f} GiB of activations each"
        )
    lines += [f"  a step: {cost.tokens:,.0f} tokens, {cost.flops / 1e15:,.2f} PFLOP; {recipe.num_steps:,} steps"]
    if card is not None:
        seconds = cost.flops / (world * card.bf16 * 1e12 * UTILISATION)
        hours = recipe.num_steps * seconds / 3600
        lines.append(
            f"  {seconds:,.1f} s a step and {hours:,.0f} hours at {UTILISATION:.0%} of the peak of {card.name} "
            "(assumed, not measured)"
        )
    lines += ["", "memory plans, GiB a card (computed)"]
    for plan in plans:
        host = sum(plan.host.values()) * world / GIB
        host_text = f"  and {host:,.0f} GiB of the host's" if host else ""
        lines.append(f"  {plan.name:<32}{plan.peak / GIB:>8.1f}  {plan.flags}{host_text}")
    chosen = next((plan for plan in plans if card is None or plan.peak <= card.memory * GIB), None)
    if card is not None:
        fits = chosen.name if chosen else "nothing fits; take more cards, or smaller samples (--clip)"
        lines.append(f"  {card.name}, {card.memory:g} GiB: {fits}")
    if chosen is not None:
        lines += ["", f"{chosen.name}, by part"]
        rows = [*chosen.card.items(), ("allowance", RESERVE)]
        lines += [f"  {name:<32}{value / GIB:>8.1f}" for name, value in rows]
    return "\n".join(lines)
