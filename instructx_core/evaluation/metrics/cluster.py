"""Outputs measured over the machines of a Ray cluster: what measure.py's loop gives, made by several workers.

Beside measure.py, whose files and rules these are. Lines are written by the driver alone, as results come in, so
whoever dies, what has come in is kept and the next run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...cluster import Work, spread
from ...data.record import from_json
from .measure import MeasureCase, OnMeasured, Weights, keep_metrics, measure_case
from .metric_lines import OutputMetrics


def measure_on_ray(
    cases: Sequence[MeasureCase],
    folder: Path,
    make: Callable[[], Weights],
    progress: OnMeasured | None = None,
    again: bool = False,
    workers: int | None = None,
) -> list[OutputMetrics]:
    """What measure.py's measure_outputs gives. make: the weights, called here and on each worker."""

    def made(todo: Sequence[MeasureCase]) -> Iterator[OutputMetrics]:
        rows = [
            {
                "item": case.item.as_json(),
                "editor": case.editor,
                "output": str(case.output),
                "folder": str(case.folder),
                "sha256": case.sha256,
            }
            for case in todo
        ]
        for line in spread(rows, partial(_measuring, make), workers):
            yield OutputMetrics(**line)

    return keep_metrics(cases, folder, make(), made, progress, again)


def _measuring(make: Callable[[], Weights]) -> Work:
    weights = make()

    def work(row: dict[str, Any]) -> dict[str, Any]:
        paths = {name: Path(row[name]) for name in ("output", "folder")}
        case = MeasureCase(**{**row, **paths, "item": from_json(row["item"])})
        return measure_case(case, weights).as_json()

    return work
