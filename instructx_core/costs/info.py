"""What a model costs, as text for people: parameters, tokens, compute, memory, and the floor and plans of a card.

Behind `instructx info`: measure.py counts, floor.py says what a card makes of it; here are only the tables.
"""

from __future__ import annotations

import re

from ..config import DESIGNS, InstructXConfig, preset
from ..geometry import ClipSize
from .cards import Card
from .floor import USUAL_MEMORY, floor_lines, plan_lines
from .measure import edit_costs


def _short(value: float, unit: str = "") -> str:
    """Three or four digits with a decimal prefix: 14.29 B parameters, 594.4 M, 1.79 PFLOP."""
    scales = ((1e15, "P"), (1e12, "T"), (1e9, "G" if unit else "B"), (1e6, "M"), (1e3, "k"))
    for scale, prefix in scales:
        if value >= scale:
            digits = value / scale
            return f"{digits:.2f} {prefix}{unit}" if digits < 100 else f"{digits:.1f} {prefix}{unit}"
    return f"{value:.0f} {unit}".rstrip()


def _table(title: str, rows: dict[str, str]) -> list[str]:
    return [title, *(f"  {name:<22}{value:>14}" for name, value in rows.items()), ""]


def cost_report(
    config: InstructXConfig | str,
    clip: ClipSize | None = None,
    card: Card | None = None,
    memory: float | None = None,
    steps: int | None = None,
) -> str:
    """`edit_costs` as text. config: one, or a preset's name. clip: by default the model's usual one.

    card, memory (GiB): with one of them also the floor and the memory plans. steps: default the model's.
    Raises InputError for a clip the model cannot take.
    """
    config = preset(config) if isinstance(config, str) else config
    usual = config.sampling
    clip = clip or ClipSize(usual.width, usual.height, usual.frames)
    facts = edit_costs(config, clip.frames, clip.height, clip.width)
    steps = steps or facts["steps"]
    latent = "x".join(str(n) for n in facts["latent"]["shape"][1:])
    lines = [f"{config.name} ({config.profile} profile), {clip}, {facts['steps']} steps"]
    lines += [
        "" if config.design.kind == "queries" else f"design {config.design.kind}: {DESIGNS[config.design.kind]}\n"
    ]
    parameters = {k: _short(v) for k, v in facts["parameters"].items() if v}
    lines += _table("parameters", parameters)
    lines += _table("tokens", {k: f"{v:,}" for k, v in facts["tokens"].items()})
    lines += _table("compute", {k: _short(v, "FLOP") for k, v in facts["flops"].items()})
    memory_rows = {f"weights {k}": _short(v, "B") for k, v in facts["bytes"]["weights"].items()}
    memory_rows |= {f"{k}, work": _short(v, "B") for k, v in facts["bytes"]["work"].items()}
    memory_rows["latent"] = _short(facts["latent"]["bytes_fp32"], "B")
    lines += _table("memory", memory_rows)
    if card is not None:
        lines += floor_lines(facts, card, steps)
    if card is not None or memory is not None:
        wanted = [memory] if memory is not None else sorted({*USUAL_MEMORY, card.memory if card else 0} - {0})
        lines += plan_lines(facts, wanted, card)
    lines.append(
        f"latent {latent} (C T h w). LoRA is merged for inference; work is counted on tensors (bf16), not guessed."
    )
    return re.sub(r" +$", "", "\n".join(lines), flags=re.MULTILINE)
