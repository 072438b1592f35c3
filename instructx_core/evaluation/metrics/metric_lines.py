"""metrics.jsonl: what was measured of each output, one JSON line an item and editor; later lines add to earlier ones.

    {"id": "add/3", "editor": "instructx", "metrics": {"outside_psnr": 31.2}, "not_measured": {"flicker": "a picture"}}

Place: measure, vbench -> metric_lines -> report. A metric that cannot be had of an item says why; it is never guessed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..lines import check_names, read_lines

METRICS = "metrics.jsonl"
UNREADABLE = "the output cannot be read"


@dataclass(frozen=True, slots=True)
class OutputMetrics:
    """Of one output. metrics: by name. not_measured: name -> why."""

    id: str
    editor: str
    metrics: Mapping[str, float]
    not_measured: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "metrics": dict(self.metrics), "not_measured": dict(self.not_measured)}


def read_output_metrics(path: Path) -> dict[tuple[str, str], OutputMetrics]:
    """The lines of each (item, editor), later ones over earlier ones. Raises InputError with the line that is wrong."""
    found: dict[tuple[str, str], OutputMetrics] = {}
    for number, values in read_lines(path):
        where = f"{path}: line {number}"
        check_names(where, values, ("id", "editor", "metrics", "not_measured"), ("id", "editor", "metrics"))
        line = OutputMetrics(values["id"], values["editor"], values["metrics"], values.get("not_measured", {}))
        for name in ("id", "editor"):
            if not isinstance(values[name], str):
                raise InputError(f"{where}: {name} is {values[name]!r:.40}; it must be a text")
        for name, of in (("metrics", line.metrics), ("not_measured", line.not_measured)):
            if not isinstance(of, Mapping):
                raise InputError(f"{where}: {name} is {of!r:.40}; it must be an object")
        wrong = [
            name for name, value in line.metrics.items() if type(value) not in (int, float) or not math.isfinite(value)
        ]
        if wrong:
            raise InputError(f"{where}: {wrong[0]} is {line.metrics[wrong[0]]!r:.40}; it must be a number")
        key = (line.id, line.editor)
        old = found.get(key, OutputMetrics(line.id, line.editor, {}))
        metrics = {**old.metrics, **line.metrics}
        why = {name: text for name, text in {**old.not_measured, **line.not_measured}.items() if name not in metrics}
        found[key] = OutputMetrics(line.id, line.editor, metrics, why)
    return found
