"""The optimisers of a run and their learning rate (paper 4.1 gives the rate alone).

With moments in 8 bits (torchao) checkpoints hold them in fp32 all the same, so that any number of processes reads them
and either optimiser goes on from them. Both a run that saves and one that loads then go on from the rounded values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.compiler import set_stance

from ..errors import InputError
from .filling import distributed_like, local_part
from .muon import Muon
from .recipes.base import Recipe

_IN_BLOCK = re.compile(r"\.(blocks|layers)\.\d+\.")
DECAY_SHARE = {"constant": 1e-9, "linear": 1.0, "cooldown": 0.25}  # of the steps, over which the rate falls to zero


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then constant, or linear to zero at num_steps over DECAY_SHARE of the steps."""
    scale = min(1.0, (step + 1) / max(1, recipe.warmup_steps))
    left = max(0.0, 1 - step / recipe.num_steps)
    return recipe.learning_rate * scale * min(1.0, left / DECAY_SHARE[recipe.learning_rate_decay])


def set_learning_rate(optimizers: list[torch.optim.Optimizer], rate: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            scaled = rate * group.get("lr_scale", 1.0)
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(scaled)
            else:
                group["lr"] = scaled


def is_hidden(name: str, parameter: Tensor) -> bool:
    """Whether Muon may train it: a convolution's kernel, or a matrix of the blocks that a transformer repeats.

    Not embeddings, heads, LoRA's factors, norms and biases (Keller Jordan's rule), which AdamW trains.
    """
    if parameter.ndim >= 4:
        return "embed" not in name and min(len(parameter), parameter[0].numel()) > 1
    return parameter.ndim == 2 and _IN_BLOCK.search(name) is not None and ".lora_" not in name


def build_optimizers(
    recipe: Recipe, trainable: Mapping[str, nn.Parameter], low_moments: bool = False
) -> list[torch.optim.Optimizer]:
    """AdamW, norms and biases not decayed; Muon for hidden weights where the recipe says so. low_moments: in 8 bits.

    Raises InputError where that needs torchao and it is not installed.
    """
    hidden = [p for name, p in trainable.items() if recipe.muon_scale and is_hidden(name, p)]
    taken = {id(p) for p in hidden}
    others = [p for p in trainable.values() if id(p) not in taken]
    groups = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    adam = _low_adam() if low_moments else torch.optim.AdamW
    optimizers: list[torch.optim.Optimizer] = [adam(groups, lr=recipe.learning_rate, betas=recipe.betas)]
    if hidden:
        group = {"params": hidden, "lr_scale": recipe.muon_scale}
        optimizers.append(Muon([group], lr=recipe.learning_rate))
    return optimizers


def _low_adam() -> type[torch.optim.Optimizer]:
    try:
        from torchao.optim import AdamW8bit
    except ImportError:
        raise InputError(
            "--optimizer-bits 8 needs torchao; install it with: pip install 'instructx[train]', or leave it out"
        ) from None
    return AdamW8bit


def step_optimizers(optimizers: Sequence[torch.optim.Optimizer], device: str) -> None:
    """And drops the gradients. On a CPU nothing is compiled, which torchao does for each shape of a tensor."""
    with set_stance("force_eager") if device == "cpu" else nullcontext():
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def plain_moments(parameter: nn.Parameter, value: Tensor) -> Tensor:
    """A value of an optimiser's state in fp32, distributed as its parameter is."""
    local = local_part(value)
    return distributed_like(parameter, local.dequantize()) if hasattr(local, "codes") else value


def round_moments(optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Of an optimiser with 8 bits: its moments become what loading them from a checkpoint makes of them."""
    for optimizer in optimizers:
        make: Any = getattr(optimizer, "_new_buffer", None)
        if make is None:
            continue
        parameter: Any  # of the states, whose keys are typed as any tensor
        for parameter, state in optimizer.state.items():
            for name, signed in (("exp_avg", True), ("exp_avg_sq", False)):
                packed = make(parameter, signed)
                local_part(packed).copy_(local_part(plain_moments(parameter, state[name])))
                state[name] = packed
