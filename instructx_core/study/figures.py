"""Pictures of findings: the variants of an experiment with their intervals; of an alignment, as in the paper's Fig. 4,
the loss over steps and over compute.

Between findings.py and the page. matplotlib, of the extra `train`. Curves are means over seeds, bands their range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..training.metrics import metric_rows
from .findings import Finding

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("tab:red", "tab:blue", "tab:green", "tab:purple", "tab:brown", "tab:gray")
LARGEST = 150_000  # bytes of a picture


@dataclass(frozen=True, slots=True)
class Curve:
    """steps: of the validations. losses_SN: a row a seed. flops: of a step; None where no record says."""

    steps: np.ndarray
    losses_SN: np.ndarray
    flops: float | None


def draw_finding(finding: Finding, output: Path, target: Path) -> Path:
    """study-<name>.webp in `target`."""
    from matplotlib.figure import Figure

    measures = list(dict.fromkeys(what for values in finding.values.values() for what in values))
    curves = alignment_curves(finding, output)
    compute = {name: curve for name, curve in curves.items() if curve.flops}
    panels = len(measures) + bool(curves) + bool(compute)
    figure = Figure(figsize=(4.4 * panels, 1.4 + 0.5 * max(4, len(finding.values))), layout="constrained")
    axes = list(np.atleast_1d(figure.subplots(1, panels)))
    colours = colours_of(finding)
    if curves:
        draw_curves(axes.pop(0), curves, colours, by_compute=False)
    if compute:
        draw_curves(axes.pop(0), compute, colours, by_compute=True)
    for each, what in zip(axes, measures, strict=True):
        draw_intervals(each, finding, what, colours)
    figure.suptitle(f"{finding.experiment.title} ({finding.experiment.where})", fontsize=10)
    path = target / f"study-{finding.experiment.name.replace('_', '-')}.webp"
    for quality in (90, 75, 50):
        figure.savefig(path, dpi=110, pil_kwargs={"quality": quality, "method": 6})
        if path.stat().st_size <= LARGEST:
            break
    return path


def colours_of(finding: Finding) -> dict[str, str]:
    """Of each variant, the same in all panels."""
    return {each.name: COLOURS[n % len(COLOURS)] for n, each in enumerate(finding.experiment.variants)}


def draw_intervals(axes: Axes, finding: Finding, what: str, colours: Mapping[str, str]) -> None:
    """Shares as bars, as in the paper's Fig. 4 and 9, but lying down, logarithms as points: a line a variant, its
    interval, its mean in numbers; to the right is better."""
    rows = [(name, values[what]) for name, values in finding.values.items() if what in values]
    ends = [end for _, value in rows for end in (value.mean, value.low, value.high) if end is not None]
    margin = 0.15 * (max(ends) - min(ends)) or 0.1
    share = what.startswith("success")
    left = 0.0 if share else min(ends) - margin
    right = max(ends) + 2 * margin
    for place, (name, value) in enumerate(rows):
        if share:
            axes.barh(place, value.mean, height=0.55, color=colours[name], alpha=0.55)
        else:
            axes.plot(value.mean, place, "o", color=colours[name])
        end = value.mean
        if value.low is not None and value.high is not None:
            axes.plot([value.low, value.high], [place, place], color="black", linewidth=1.4, marker="|")
            end = value.high
        axes.text(end + 0.15 * margin, place, f"{value.mean:.3f}", va="center", fontsize=7)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    axes.set_xlim(left, right)
    axes.tick_params(axis="x", labelsize=7)
    axes.locator_params(axis="x", nbins=5)
    axes.invert_yaxis()
    axes.grid(alpha=0.3, axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel(f"{what} (right is better)", fontsize=8)


def draw_curves(axes: Axes, curves: Mapping[str, Curve], colours: Mapping[str, str], by_compute: bool) -> None:
    for name, curve in curves.items():
        place = curve.steps * (curve.flops or 0) / 1e15 if by_compute else curve.steps
        axes.plot(place, curve.losses_SN.mean(axis=0), label=name, color=colours[name], marker=".", markersize=3)
        low, high = curve.losses_SN.min(axis=0), curve.losses_SN.max(axis=0)
        axes.fill_between(place, low, high, color=colours[name], alpha=0.2, linewidth=0)
    axes.set_xlabel("PFLOP of training" if by_compute else "step", fontsize=8)
    axes.set_ylabel("validation loss", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)


def alignment_curves(finding: Finding, output: Path) -> dict[str, Curve]:
    """Validation losses of every variant's seeds, of an experiment that measures the alignment; else none.

    Raises InputError for a damaged line of metrics.
    """
    if finding.experiment.last != "align":
        return {}
    found: dict[str, Curve] = {}
    for variant in finding.experiment.variants:
        sources = [source for source in finding.sources if source["variant"] == variant.name]
        rows = [validation_losses(output / source["run"] / "metrics.jsonl") for source in sources]
        if rows and all(rows):
            steps = sorted(set.intersection(*(set(row) for row in rows)))
            flops = [source["flops"]["image"] for source in sources if source.get("flops")]
            losses_SN = np.array([[row[step] for step in steps] for row in rows])
            found[variant.name] = Curve(np.array(steps), losses_SN, float(np.mean(flops)) if flops else None)
    return found


def validation_losses(path: Path) -> dict[int, float]:
    """Loss on images by step."""
    return {
        row["step"]: row["validation"]["image loss"]
        for row in metric_rows(path)
        if "image loss" in row.get("validation", {})
    }
