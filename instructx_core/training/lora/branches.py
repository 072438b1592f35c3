"""LoRA beside frozen linear layers, whatever number format these are in: what a run trains, and how it is switched off.

Between a loaded model (base.py) and jobs/lora.py. peft would want plain layers and gives its own the number format of
the weight beside them, which may be fp8 here.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...formats.layouts.packed_linear import PackedLinear
from .. import rng

DIT_LINEARS = (  # of every block; all that the LoRA loaders of others know
    *(f"{attention}.{name}" for attention in ("attn1", "attn2") for name in ("to_q", "to_k", "to_v", "to_out.0")),
    "ffn.net.0.proj",
    "ffn.net.2",
)


class LoraLinear(nn.Module):
    """base(x) + alpha / rank * up(down(x)); lora_A (rank, in) and lora_B (out, rank) are fp32, B starts at zero."""

    def __init__(self, base: nn.Module, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        assert isinstance(base, nn.Linear | PackedLinear)
        bound = base.in_features**-0.5
        down = torch.rand(rank, base.in_features, generator=generator) * (2 * bound) - bound
        self.base, self.scale, self.is_on = base, alpha / rank, True
        self.lora_A, self.lora_B = nn.Parameter(down), nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        y = self.base(x)
        if not self.is_on:
            return y
        added = functional.linear(functional.linear(x, self.lora_A.to(x.dtype)), self.lora_B.to(x.dtype))
        return y + self.scale * added.to(y.dtype)


def add_branches(module: Any, layers: Sequence[str], rank: int, alpha: float, seed: int) -> dict[str, nn.Parameter]:
    """To every linear below `module` whose name ends with one of `layers`; the others and their bases are frozen.

    What is trained, by name in `module`; each starts from (seed, name).
    """
    module.requires_grad_(False)
    endings = tuple(f".{layer}" for layer in layers)
    chosen = [
        (name, layer)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | PackedLinear) and f".{name}".endswith(endings)
    ]
    trained: dict[str, nn.Parameter] = {}
    for name, layer in chosen:
        parent, _, child = name.rpartition(".")
        branch = LoraLinear(layer, rank, alpha, rng.torch_generator(seed, zlib.crc32(name.encode())))
        base_weight = layer.packed.stored if isinstance(layer, PackedLinear) else layer.weight
        for half in (branch.lora_A, branch.lora_B):
            half.data = half.data.to(base_weight.device)
        setattr(module.get_submodule(parent), child, branch)
        trained |= {f"{name}.lora_A": branch.lora_A, f"{name}.lora_B": branch.lora_B}
    return trained


@contextmanager
def branches_off(*modules: nn.Module) -> Iterator[None]:
    """The base alone inside."""
    found = [layer for module in modules for layer in module.modules() if isinstance(layer, LoraLinear)]
    for layer in found:
        layer.is_on = False
    try:
        yield
    finally:
        for layer in found:
            layer.is_on = True
