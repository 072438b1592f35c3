"""What a call costs, found by running it on fake tensors of the real shapes: FLOPs and the memory it needs at its peak.

FLOPs: 2 a multiply-add; matrix products, convolutions and attention only. Memory: bytes of every tensor that the call
makes, from the moment it is made until nothing refers to it, hence without the weights, without what an allocator
loses and without the scratch space of convolution libraries. Used by info.py.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from ..encoder.positions import sequence_positions
from ..encoder.vision import vision_plan


@dataclass(frozen=True, slots=True)
class Cost:
    """flops of one call; peak: bytes alive at once at the most, above what was there before."""

    flops: int
    peak: int


class _LiveBytes(TorchDispatchMode):
    """Follows the storages made inside. A view or an in-place result has the storage of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = {id(value.untyped_storage()) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                if id(storage) not in inputs and id(storage) not in self._known:
                    self._known.add(id(storage))
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._freed, id(storage), storage.nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


# The counter knows the products of plain attention and of the GPU's kernels, but not of the CPU's.
_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)
}
_ATTENTION_BACKWARD = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)
    )
}


def cost_of(call: Callable[[], Any]) -> Cost:
    """Run `call` without gradients and count; what it returns is dropped only after the count."""
    with FlopCounterMode(display=False, custom_mapping=_ATTENTION) as counter, _LiveBytes() as living, torch.no_grad():
        result = call()
        peak = living.peak
    del result
    return Cost(flops=counter.get_total_flops(), peak=peak)


def cost_of_training(loss: Callable[[], Tensor], module: nn.Module) -> Cost:
    """Forward and backward pass: `loss` gives a scalar. Gradients of `module` are dropped as soon as each is there, so
    that the peak is of activations alone."""
    hooks = [
        parameter.register_post_accumulate_grad_hook(_drop_gradient)
        for parameter in module.parameters()
        if parameter.requires_grad
    ]
    # One after the other: the counter keeps what a recomputed block has made.
    with FlopCounterMode(display=False, custom_mapping=_ATTENTION | _ATTENTION_BACKWARD) as counter:
        loss().backward()
    with _LiveBytes() as living:
        loss().backward()
    for hook in hooks:
        hook.remove()
    return Cost(flops=counter.get_total_flops(), peak=living.peak)


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


@contextmanager
def fake_tensors(dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """Inside, tensors on the CPU have shapes and no values: the largest model is built and run in no memory.

    dtype: of modules built inside (Module.to cannot change fake parameters).

    Not the meta device: transformers 4.57 enters torch.autocast for it, which torch 2.6 refuses.
    """
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        torch.set_default_dtype(before)  # and these must not keep a fake tensor for the next real clip of the same size
        vision_plan.cache_clear()
        sequence_positions.cache_clear()
