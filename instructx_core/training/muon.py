"""Muon for the hidden weights of the tiny parts: momentum whose update is made orthogonal (Keller Jordan, nanochat).

torch.optim.Muon takes 2-D tensors only; here a kernel is flattened to (out, in * t * h * w). What it is worth here:
docs/training.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # quintic Newton-Schulz, chosen by its authors for slope at zero


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Roughly U V^T of a 2-D tensor: singular values end up between about 0.7 and 1.2."""
    a, b, c = COEFFICIENTS
    x = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    def __init__(self, parameters: Iterable[Any], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                buffer = state.setdefault("momentum", torch.zeros_like(parameter))
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                nesterov = parameter.grad.lerp(buffer, group["momentum"])
                update = orthogonalise(nesterov.flatten(1))
                scale = 0.2 * max(update.shape) ** 0.5  # root mean square of an AdamW step (Moonlight)
                parameter.add_(update.view_as(parameter), alpha=-group["lr"] * scale)
