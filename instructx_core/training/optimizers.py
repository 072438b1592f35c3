"""The optimisers of a run and their learning rate (paper 4.1 gives the rate alone)."""

from __future__ import annotations

import torch
from torch import nn

from .muon import Muon
from .recipes.base import Recipe

DECAY_SHARE = {"constant": 1e-9, "linear": 1.0, "cooldown": 0.25}  # of the steps, over which the rate falls to zero


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then constant, or linear to zero at num_steps over DECAY_SHARE of the steps."""
    scale = min(1.0, (step + 1) / max(1, recipe.warmup_steps))
    left = max(0.0, 1 - step / recipe.num_steps)
    return recipe.learning_rate * scale * min(1.0, left / DECAY_SHARE[recipe.learning_rate_decay])


def set_learning_rate(optimizers: list[torch.optim.Optimizer], rate: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)


def build_optimizers(recipe: Recipe, parameters: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
    """AdamW, norms and biases not decayed; Muon for convolutions where the recipe says so."""
    scale = recipe.convolution_scale()
    convolutions = [p for p in parameters if p.ndim >= 4 and min(len(p), p[0].numel()) > 1] if scale else []
    taken = {id(p) for p in convolutions}
    others = [p for p in parameters if id(p) not in taken]
    groups = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas)]
    if convolutions:
        group = {"params": convolutions, "lr_scale": scale}
        optimizers.append(Muon([group], lr=recipe.learning_rate))
    return optimizers
