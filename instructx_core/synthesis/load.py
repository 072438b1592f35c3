"""How many card hours the paper's 236K pairs cost with its models, stage by stage: computed, never run.

Place: sizes of public models, costs/cards.py -> load -> `instructx synthesize --plan CARDS`. FLOPs are 2 x parameters x
tokens and 4 x layers x tokens^2 x width of attention for every forward, or what the model's authors state; a card
reaches UTILISATION of its peak. As if every clip went through all stages: what filters save is not taken off.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..costs.cards import Card

PAIRS_WANTED = {"remove": 65_000, "add": 73_000, "swap": 98_000}  # paper A.2
SURVIVAL = 0.3  # of clips that come through all filters: assumed, no film of a camera has been measured at this size
UTILISATION = 0.4  # of the card's dense bf16 peak: assumed
DRIVEN = 0.5  # of swaps that are pose-driven, the others in-painted: assumed
FRAMES, HEIGHT, WIDTH = 81, 480, 832  # a clip of 5 s at 16 Hz
TERA, HOUR = 1e12, 3600.0


@dataclass(frozen=True, slots=True)
class ModelLoad:
    """calls: forwards a clip. tokens of one, layers and width of its attention; or tflops of one, as is stated."""

    stage: str
    model: str
    calls: int
    parameters: float = 0.0
    tokens: int = 0
    layers: int = 0
    width: int = 0
    tflops: float = 0.0

    @property
    def tflop(self) -> float:
        """Of a clip."""
        attention = 4.0 * self.layers * self.tokens**2 * self.width
        return self.calls * (self.tflops or (2.0 * self.parameters * self.tokens + attention) / TERA)


VIDEO_TOKENS = ((FRAMES - 1) // 4 + 1) * (HEIGHT // 16) * (WIDTH // 16)
PICTURE_TOKENS = (HEIGHT // 16) * (WIDTH // 16)
LOADS = (
    ModelLoad("subject", "Grounding DINO, Swin-B, 3 phrases", 3, tflops=0.46),
    ModelLoad("subject", "SAM 2.1 large, both ways", FRAMES, tflops=0.81),
    ModelLoad("ground", "RAFT large, 7 pairs of frames", 7, tflops=0.85),
    ModelLoad("erase", "Wan VACE 14B, 50 steps, guidance", 100, 17.3e9, VIDEO_TOKENS, 40, 5120),
    ModelLoad("reference", "Flux Kontext 12B, 28 steps", 28, 11.9e9, 2 * PICTURE_TOKENS + 512, 57, 3072),
    ModelLoad("swap: frame", "Flux Kontext 12B, 28 steps", 28, 11.9e9, 2 * PICTURE_TOKENS + 512, 57, 3072),
    ModelLoad("swap: poses", "ViTPose huge", 2 * FRAMES, tflops=0.12),
    ModelLoad("swap: driven", "Wan Animate 14B, 20 steps", 20, 17.3e9, VIDEO_TOKENS, 40, 5120),
    ModelLoad("swap: in-painted", "Wan VACE 14B, 50 steps, guidance", 100, 17.3e9, VIDEO_TOKENS, 40, 5120),
)


def clips_of(stage: str, survival: float = SURVIVAL) -> float:
    """That go into a stage. One erased clip gives a removal and an addition, so the more of the two counts."""
    erased = max(PAIRS_WANTED["remove"], PAIRS_WANTED["add"]) / survival
    swapped = PAIRS_WANTED["swap"] / survival
    driven = {"swap: frame": DRIVEN, "swap: poses": DRIVEN, "swap: driven": DRIVEN, "swap: in-painted": 1.0 - DRIVEN}
    if stage in driven:
        return swapped * driven[stage]
    return erased if stage in ("erase", "reference") else erased + swapped


def hours_of(load: ModelLoad, card: Card, survival: float = SURVIVAL) -> float:
    """Card hours."""
    return clips_of(load.stage, survival) * load.tflop / (card.bf16 * UTILISATION) / HOUR


def load_table(cards: int, card: Card) -> str:
    """Markdown, with what is assumed."""
    wanted = ", ".join(f"{count:,} {task}" for task, count in PAIRS_WANTED.items())
    lines = [
        f"Computed, not measured: {sum(PAIRS_WANTED.values()):,} pairs ({wanted}).",
        f"Assumed: {SURVIVAL:.0%} of clips come through, {UTILISATION:.0%} of the {card.name}'s peak, {DRIVEN:.0%} of "
        f"swaps driven, clips of {FRAMES} frames {WIDTH}x{HEIGHT}. Server (writer, judge) and VAEs not counted.",
        "",
        f"| stage | model | clips | TFLOP a clip | {card.name} hours | days on {cards} |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    total = 0.0
    for load in LOADS:
        hours = hours_of(load, card)
        total += hours
        lines.append(
            f"| {load.stage} | {load.model} | {clips_of(load.stage):,.0f} | {load.tflop:,.0f} | {hours:,.0f} | "
            f"{hours / cards / 24:,.1f} |"
        )
    return "\n".join([*lines, f"| all | | | | {total:,.0f} | {total / cards / 24:,.1f} |"])
