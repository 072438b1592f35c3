"""The weights that validated best: what a run with patience ends with, once so many validations have not beaten them.

Beside trainer.py. `best.safetensors` carries its step and loss, and the validations since then stand in metrics.jsonl,
so a run that is killed and resumed ends at the same step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import safe_open

from .metrics import Metrics

BEST = "best.safetensors"


class Best:
    """patience: validations without a better one after which `is_over`."""

    def __init__(self, folder: Path, patience: int, metrics: Metrics) -> None:
        self.path, self.patience, self.metrics = folder / BEST, patience, metrics
        self.step, self.loss = -1, math.inf
        if self.path.is_file():
            with safe_open(self.path, "pt") as file:
                about = file.metadata()
            self.step, self.loss = int(about["step"]), float(about["loss"])

    def offer(
        self, step: int, validation: Mapping[str, float], write: Callable[[Path, dict[str, str]], object]
    ) -> None:
        """write(path, metadata): the weights of this step, if they are better, or those of the best step once more."""
        loss = mean_loss(validation)
        if loss < self.loss or step == self.step:
            partial = self.path.with_name(f".{BEST}")
            write(partial, {"step": str(step), "loss": repr(loss)})
            partial.replace(self.path)
            self.step, self.loss = step, loss

    def is_over(self) -> bool:
        return sum(step > self.step for step in self.metrics.validated()) >= self.patience


def mean_loss(validation: Mapping[str, float]) -> float:
    """Of all kinds of bucket."""
    losses = [value for name, value in validation.items() if name.endswith("loss")]
    return sum(losses) / len(losses)
