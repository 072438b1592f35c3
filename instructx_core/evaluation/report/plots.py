"""Means with intervals as pictures: one SVG a dimension, a line an editor, for the page; drawn without a library.

Place: cells -> plots -> page. 400 units wide, so that letters stay readable on a phone.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from ..statistics.intervals import Estimate

WIDTH, LEFT, RIGHT, LINE, TOP, BOTTOM = 400, 136, 16, 30, 30, 28


def interval_plot(title: str, rows: Sequence[tuple[str, Estimate]], scale: tuple[float, float]) -> str:
    """scale: the lowest and the highest score there can be. Colours are the page's."""
    height = TOP + LINE * len(rows) + BOTTOM
    low, high = scale

    def across(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low)

    parts = [f'<text x="0" y="18" class="title">{html.escape(title)}</text>']
    step = 1 if high - low <= 5 else 3 if (high - low) % 3 == 0 else 2
    for tick in range(int(low), int(high) + 1, step):
        x = across(tick)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - BOTTOM}" class="grid"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 8}" class="tick">{tick}</text>')
    for number, (name, estimate) in enumerate(rows):
        y = TOP + LINE * (number + 0.5)
        shown = name if len(name) <= 16 else f"{name[:14]}..."
        parts.append(f'<text x="{LEFT - 8}" y="{y + 5:.1f}" class="name">{html.escape(shown)}</text>')
        if estimate.low is not None and estimate.high is not None:
            ends = f'x1="{across(estimate.low):.1f}" x2="{across(estimate.high):.1f}"'
            parts.append(f'<line {ends} y1="{y:.1f}" y2="{y:.1f}" class="interval"/>')
        parts.append(
            f'<circle cx="{across(estimate.mean):.1f}" cy="{y:.1f}" r="5" class="mean">'
            f"<title>{html.escape(name)}: {estimate}</title></circle>"
        )
    summary = html.escape("; ".join(f"{name} {estimate}" for name, estimate in rows), quote=True)
    label = f"{html.escape(title, quote=True)}: {summary}"
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
