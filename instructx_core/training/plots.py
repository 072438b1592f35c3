"""Loss curves from metrics.jsonl (matplotlib, extra `train`)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMOOTHING = 50  # training steps
Curves = dict[str, list[tuple[int, float]]]


def read_metrics(sources: Sequence[Path]) -> tuple[Curves, Curves, Curves]:
    """(training loss by bucket, validation losses, success in percent) as (step, value) points, run after run.

    A validation value `failed X` or `X failed` is a share of failed edits (jobs/edit.py); success is its complement.
    """
    training, losses, success = defaultdict(list), defaultdict(list), defaultdict(list)
    before = 0
    for source in sources:
        rows = [json.loads(line) for line in source.read_text().splitlines()]
        for row in rows:
            step = before + row["step"]
            if "loss" in row:
                training[row["bucket"]].append((step, row["loss"]))
            for name, value in row.get("validation", {}).items():
                if "failed" in name:
                    success[name.replace("failed", "").strip()].append((step, 100 * (1 - value)))
                else:
                    losses[name].append((step, value))
        before += rows[-1]["step"] if rows else 0
    return dict(training), dict(losses), dict(success)


def plot_metrics(sources: Sequence[Path], target: Path) -> None:
    """Training loss per bucket (running mean), validation losses and, where edits are judged, their success.

    Several metrics.jsonl are drawn one after the other, as the stages follow each other.
    """
    from matplotlib.figure import Figure

    training, losses, success = read_metrics(sources)
    panels = [(f"training loss, mean of {SMOOTHING} steps", {k: running_mean(v) for k, v in training.items()}, "log")]
    panels += [("validation loss", losses, "log")] if losses else []
    panels += [("success in percent", success, "linear")] if success else []
    figure = Figure(figsize=(5 * len(panels) + 1, 4.5), layout="constrained")
    for axes, (title, curves, scale) in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        _draw(axes, curves, scale)
        axes.set(title=title, xlabel="step", yscale=scale)
    figure.savefig(target, dpi=110)


def running_mean(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    steps, values = zip(*points, strict=True)
    width = min(SMOOTHING, len(values))
    return list(zip(steps[width - 1 :], np.convolve(values, np.ones(width) / width, "valid"), strict=True))


def _draw(axes: Axes, curves: Curves, scale: str) -> None:
    for number, (name, points) in enumerate(curves.items()):
        style = "-" if number < 10 else "--"  # the colours repeat after ten
        axes.plot(*np.array(points).T, style, marker="." if len(points) < 50 else "", label=name)
    axes.grid(alpha=0.3)
    if curves:
        axes.legend(fontsize=7, ncols=2 if len(curves) > 6 else 1)
    if scale == "linear":
        axes.set_ylim(0, 100)
