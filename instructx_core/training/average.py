"""An exponential moving average of the trained tensors: what is validated, shown and exported (not in the paper)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .filling import local_part, own_rows


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
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        """Parameters and averages, one tensor at a time: a large model has no room for a third copy."""
        for name, parameter in self.parameters.items():
            ours, average = local_part(parameter.detach()), local_part(self.tensors[name])
            kept = ours.clone()
            ours.copy_(average)
            average.copy_(kept)


@torch.no_grad()
def copy_tensors(targets: dict[str, nn.Parameter] | dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    """In place, by name; of whole tensors, each process takes its rows."""
    for name, target in targets.items():
        local_part(target).copy_(own_rows(target, tensors[name]))
