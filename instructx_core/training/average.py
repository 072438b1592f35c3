"""An exponential moving average of the trained tensors: what is validated, shown and exported (not in the paper)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Of `parameters`, by name; decay 0 keeps none, and the parameters stand for themselves."""

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = parameters, decay
        self.tensors = {name: p.detach().clone() for name, p in parameters.items()} if decay else {}

    def update(self, step: int) -> None:
        """After `step` steps; starts as a plain average."""
        if not self.tensors:
            return
        decay = min(self.decay, (1 + step) / (10 + step))
        averages = [self.tensors[name] for name in self.parameters]
        with torch.no_grad():
            torch._foreach_lerp_(averages, list(self.parameters.values()), 1 - decay)

    def load(self, tensors: dict[str, Tensor]) -> None:
        copy_tensors(self.tensors, tensors)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model holds the average inside."""
        if not self.tensors:
            yield
            return
        kept = {name: p.detach().clone() for name, p in self.parameters.items()}
        copy_tensors(self.parameters, self.tensors)
        try:
            yield
        finally:
            copy_tensors(self.parameters, kept)


@torch.no_grad()
def copy_tensors(targets: dict[str, nn.Parameter] | dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    """In place, by name."""
    for name, target in targets.items():
        target.copy_(tensors[name])
