"""The floor of an edit on one card: seconds that no program can beat, and the plans that fit into its memory.

facts (measure.py) + card (cards.py) -> stages, plans -> text of `instructx info --gpu`. A stage takes at least its
FLOPs at the card's bf16 peak, and at least the time to read its weights once from the card's memory. Memory is weights
(bf16) plus what the stage needs at its peak, which was counted tensor by tensor (count.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .cards import Card

GIB = 1 << 30
# CUDA's context and libraries, scratch space of convolutions, the allocator's losses: an allowance, not measured.
RESERVE = 1.5 * GIB
PCIE = 25.0  # GB/s from host memory, PCIe 4.0 x16 in practice: the published 32 GB/s less protocol
USUAL_MEMORY = (12, 16, 24)  # GiB


@dataclass(frozen=True, slots=True)
class StageFloor:
    """One stage at its floor: seconds, and whether arithmetic ("compute") or reading weights ("memory") bounds it."""

    name: str
    flops: int
    seconds: float
    bound: str


@dataclass(frozen=True, slots=True)
class CardPlan:
    """One way to keep the parts in memory. peak: bytes at the worst stage, allowance included; streamed: bytes a step
    that come from the host's memory."""

    name: str
    flags: str
    peak: float
    worst: str
    streamed: int = 0


def stages(facts: Mapping[str, Any], card: Card, steps: int) -> list[StageFloor]:
    """Every stage of one edit of `steps` denoising steps."""
    flops, parts = facts["flops"], facts["bytes"]["parts"]
    branches = facts["branches"]
    work = (
        ("MLLM", flops["encoder"], branches * parts["encoder"]),
        ("VAE encode", flops["VAE encode"], parts["VAE"]),
        (f"{steps} steps", steps * flops["DiT step"], steps * branches * parts["DiT"]),
        ("VAE decode", flops["VAE decode"], parts["VAE"]),
    )
    found = []
    for name, count, read in work:
        compute, memory = count / (card.bf16 * 1e12), read / (card.bandwidth * 1e9)
        found.append(StageFloor(name, count, max(compute, memory), "compute" if compute >= memory else "memory"))
    return found


def plans(facts: Mapping[str, Any]) -> list[CardPlan]:
    """From the fastest to the smallest. Each keeps the measures of the one before it, unless it says otherwise."""
    parts, work = facts["bytes"]["parts"], facts["bytes"]["work"]
    encoder, dit, vae = parts["encoder"], parts["DiT"], parts["VAE"]
    blocks, layers = parts["DiT blocks"], facts["layers"]
    fp8 = dit - blocks // 2
    two_blocks = dit - blocks + 2 * blocks // layers  # the one that runs and the one that is on its way
    whole = {"MLLM": work["encoder"], "VAE encode": work["VAE encode"], "VAE decode": work["VAE decode"]}
    tiled = {"MLLM": work["encoder"], "VAE encode": work["VAE tile encode"], "VAE decode": work["VAE tile decode"]}
    step = {"steps": work["DiT step"]}

    def plan(
        name: str, flags: str, weights: Mapping[str, int], extra: Mapping[str, int], streamed: int = 0
    ) -> CardPlan:
        need = {stage: weights[stage] + bytes_ for stage, bytes_ in {**extra, **step}.items()}
        worst = max(need, key=lambda stage: need[stage])
        return CardPlan(name, flags, need[worst] + RESERVE, worst, streamed)

    def by_stage(dit_bytes: int) -> dict[str, int]:
        return {"MLLM": encoder, "VAE encode": vae, "steps": dit_bytes, "VAE decode": vae}

    everything = dict.fromkeys(by_stage(0), encoder + dit + vae)
    return [
        plan("all on the card", "", everything, whole),
        plan("one part at a time", "--offload model", by_stage(dit), whole),
        plan("+ VAE in tiles", "--offload model --tile on", by_stage(dit), tiled),
        plan("+ DiT stored in fp8", "--offload model --tile on --fp8", by_stage(fp8), tiled),
        plan(
            "DiT streamed, bf16",
            "--offload group --tile on",
            by_stage(two_blocks),
            tiled,
            facts["branches"] * blocks,
        ),
    ]


def first_fitting(found: Sequence[CardPlan], memory: float) -> CardPlan | None:
    """The first plan that fits into `memory` GiB; None where none does."""
    return next((plan for plan in found if plan.peak <= memory * GIB), None)


def floor_lines(facts: Mapping[str, Any], card: Card, steps: int) -> list[str]:
    """The table of seconds."""
    found = stages(facts, card, steps)
    lines = [f"floor on {card.name}: {card.bf16:.0f} TFLOPS bf16 ({card.source}), {card.bandwidth:g} GB/s"]
    for stage in found:
        lines.append(f"  {stage.name:<18}{stage.flops / 1e12:>12,.1f} TFLOP{stage.seconds:>10.2f} s  {stage.bound}")
    total = sum(stage.seconds for stage in found)
    lines.append(f"  {'total':<18}{sum(s.flops for s in found) / 1e12:>12,.1f} TFLOP{total:>10.2f} s")
    return [*lines, "  real programs reach 40 to 75 % of this peak; no time for reading and writing files", ""]


def plan_lines(facts: Mapping[str, Any], memories: Sequence[float], card: Card | None) -> list[str]:
    """The table of plans, which of them fits where, and what streaming costs."""
    found = plans(facts)
    lines = ["memory plans (weights bf16 + counted peak + 1.5 GiB allowance)"]
    for plan in found:
        lines.append(f"  {plan.name:<28}{plan.peak / GIB:>7.1f} GiB  at {plan.worst:<11} {plan.flags}".rstrip())
    for memory in memories:
        plan = first_fitting(found, memory)
        lines.append(f"  {memory:g} GiB: {plan.name if plan else 'nothing fits; use a smaller or shorter clip'}")
    streamed = found[-1].streamed / (PCIE * 1e9)
    lines.append(
        f"  streaming moves {found[-1].streamed / GIB:.1f} GiB a step, at least {streamed:.1f} s of PCIe 4.0 x16"
    )
    if card is not None:
        compute = facts["flops"]["DiT step"] / (card.bf16 * 1e12)
        hidden = "hidden behind" if streamed <= compute else "longer than"
        lines[-1] += f"; {hidden} the {compute:.1f} s of arithmetic"
    return [*lines, ""]
