"""Pictures of findings: the variants of an experiment with their intervals, and of an alignment the loss over steps.

Between findings.py and the page. matplotlib, of the extra `train`. Curves are means over seeds, bands their range.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .findings import Finding

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = tuple[np.ndarray, np.ndarray]  # steps; losses, a row a seed


def draw_finding(finding: Finding, output: Path, target: Path) -> Path:
    """study-<name>.png in `target`."""
    from matplotlib.figure import Figure

    measures = list(dict.fromkeys(what for values in finding.values.values() for what in values))
    curves = alignment_curves(finding, output)
    panels = len(measures) + bool(curves)
    figure = Figure(figsize=(4.6 * panels, 1.4 + 0.5 * max(4, len(finding.values))), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(1, panels)))
    if curves:
        draw_curves(axes.pop(0), curves)
    for each, what in zip(axes, measures, strict=True):
        draw_intervals(each, finding, what)
    path = target / f"study-{finding.experiment.name.replace('_', '-')}.png"
    figure.suptitle(finding.experiment.title, fontsize=10)
    figure.savefig(path, dpi=100)
    return path


def draw_intervals(axes: Axes, finding: Finding, what: str) -> None:
    """A line a variant; to the right is better."""
    rows = [(name, values[what]) for name, values in finding.values.items() if what in values]
    for place, (name, estimate) in enumerate(rows):
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [place, place], color="tab:blue")
        axes.plot(estimate.mean, place, "o", color="tab:blue" if name == "InstructX" else "tab:orange")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.locator_params(axis="x", nbins=5)
    axes.invert_yaxis()
    axes.margins(y=0.2)
    axes.grid(alpha=0.3)
    axes.set_xlabel(f"{what} (right is better)", fontsize=8)


def draw_curves(axes: Axes, curves: dict[str, Curve]) -> None:
    for name, (steps, losses_SN) in curves.items():
        (line,) = axes.plot(steps, losses_SN.mean(axis=0), label=name)
        axes.fill_between(steps, losses_SN.min(axis=0), losses_SN.max(axis=0), color=line.get_color(), alpha=0.2)
    axes.set_xlabel("step", fontsize=8)
    axes.set_ylabel("validation loss", fontsize=8)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)


def alignment_curves(finding: Finding, output: Path) -> dict[str, Curve]:
    """Validation losses of every variant's seeds, of an experiment that measures the alignment; else none."""
    if finding.experiment.last != "align":
        return {}
    found: dict[str, Curve] = {}
    for variant in finding.experiment.variants:
        runs = [source["run"] for source in finding.sources if source["variant"] == variant.name]
        rows = [validation_losses(output / run / "metrics.jsonl") for run in runs]
        if rows and all(rows):
            steps = sorted(set.intersection(*(set(row) for row in rows)))
            found[variant.name] = np.array(steps), np.array([[row[step] for step in steps] for row in rows])
    return found


def validation_losses(path: Path) -> dict[int, float]:
    """Loss on images by step."""
    lines = path.read_text().splitlines() if path.is_file() else []
    rows = [json.loads(line) for line in lines]
    return {row["step"]: row["validation"]["image loss"] for row in rows if "image loss" in row.get("validation", {})}
