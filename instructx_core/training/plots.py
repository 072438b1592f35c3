"""Loss curves from metrics.jsonl (matplotlib, extra `train`)."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np


def plot_metrics(source: Path, target: Path) -> None:
    """Training loss per bucket (running mean of 50) and each validation value, over steps."""
    from matplotlib.figure import Figure

    training: dict[str, list[tuple[int, float]]] = defaultdict(list)
    validation: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for line in source.read_text().splitlines():
        row = json.loads(line)
        if "loss" in row:
            training[row["bucket"]].append((row["step"], row["loss"]))
        for name, value in row.get("validation", {}).items():
            validation[name].append((row["step"], value))
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, points in training.items():
        steps, losses = np.array(points).T
        width = min(50, len(losses))
        left.plot(steps[width - 1 :], np.convolve(losses, np.ones(width) / width, "valid"), label=name)
    for name, points in validation.items():
        right.plot(*np.array(points).T, marker=".", label=name)
    for axes, title in ((left, "training loss, mean of 50 steps"), (right, "validation")):
        axes.set(title=title, xlabel="step", yscale="log")
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    figure.savefig(target, dpi=110)
