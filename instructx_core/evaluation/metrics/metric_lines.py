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
MAPPINGS = ("metrics", "not_measured", "weights")
UNREADABLE = "the output cannot be read"


@dataclass(frozen=True, slots=True)
class OutputMetrics:
    """Of one output. metrics: by name. not_measured: name -> why. sha256: of the file that was measured; None: not
    known. weights: metric -> digest of the weights that it was measured with, where it needs some."""

    id: str
    editor: str
    metrics: Mapping[str, float]
    not_measured: Mapping[str, str] = field(default_factory=dict)
    sha256: str | None = None
    weights: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        mappings = {name: dict(getattr(self, name)) for name in MAPPINGS}
        return {**dataclasses.asdict(self), **mappings}


def read_output_metrics(path: Path) -> dict[tuple[str, str], OutputMetrics]:
    """The lines of each (item, editor), later ones over earlier ones, of the last file that was measured.

    Raises InputError with the line that is wrong.
    """
    names = [field.name for field in dataclasses.fields(OutputMetrics)]
    found: dict[tuple[str, str], OutputMetrics] = {}
    for number, values in read_lines(path):
        where = f"{path}: line {number}"
        check_names(where, values, names, ("id", "editor", "metrics"))
        line = OutputMetrics(**values)
        for name in ("id", "editor"):
            if not isinstance(values[name], str):
                raise InputError(f"{where}: {name} is {values[name]!r:.40}; it must be a text")
        for name in MAPPINGS:
            if not isinstance(values.get(name, {}), Mapping):
                raise InputError(f"{where}: {name} is {values[name]!r:.40}; it must be an object")
        if not isinstance(line.sha256, str | None):
            raise InputError(f"{where}: sha256 is {line.sha256!r:.40}; it must be a text or null")
        wrong = [
            name for name, value in line.metrics.items() if type(value) not in (int, float) or not math.isfinite(value)
        ]
        if wrong:
            raise InputError(f"{where}: {wrong[0]} is {line.metrics[wrong[0]]!r:.40}; it must be a number")
        old = found.get((line.id, line.editor))
        if old is not None and (old.sha256 == line.sha256 or None in (old.sha256, line.sha256)):
            line = _both(old, line)
        found[line.id, line.editor] = line
    return found


def _both(old: OutputMetrics, line: OutputMetrics) -> OutputMetrics:
    """A later line over an earlier one of the same file."""
    kept = {name: value for name, value in old.metrics.items() if name not in line.not_measured}
    metrics = {**kept, **line.metrics}
    why = {name: text for name, text in {**old.not_measured, **line.not_measured}.items() if name not in metrics}
    weights = {**old.weights, **line.weights}
    return OutputMetrics(line.id, line.editor, metrics, why, line.sha256 or old.sha256, weights)
