"""A linear layer of a frozen model whose weight stays as its file stores it: unpacked where it is used, in both passes.

dit.py puts them where training asks for it. Autograd would keep the unpacked weight until the backward pass; here it is
unpacked once more, so that a model needs the memory of its file and of one layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..containers.packed import PackedWeight


class PackedLinear(nn.Module):
    """Frozen. dtype: in which it computes."""

    def __init__(self, weight: PackedWeight, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.packed, self.dtype = weight, dtype
        self.out_features, self.in_features = weight.shape
        self.register_buffer("bias", bias, persistent=False)

    def unpacked(self) -> Tensor:
        return self.packed.unpack(self.dtype)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Moves with its module; its number format stays."""
        super()._apply(fn, recurse)
        self.packed = self.packed.to(fn(torch.empty(0)).device)
        return self

    def forward(self, x: Tensor) -> Tensor:
        return _Linear.apply(x, self)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, {self.packed.kind}"


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: PackedLinear) -> Tensor:
        ctx.layer, ctx.kind = layer, x.dtype
        bias = None if layer.bias is None else layer.bias.to(layer.dtype)
        return functional.linear(x.to(layer.dtype), layer.unpacked(), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return (gradient.to(ctx.layer.dtype) @ ctx.layer.unpacked()).to(ctx.kind), None
