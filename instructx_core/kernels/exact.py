"""The op `torch.ops.instructx.attention`, exact on our kernel: launch, shapes for torch.compile, backward.

Place in the data flow: from `session.py` to `loader.py`. The op launches or raises KernelError; what falls back, and
why, is `select.py`'s business. The backward recomputes with torch's SDPA, so no gradient is ever dropped.
Legend: B batch, S tokens, H heads, D head dim (64 or 128). Strided views are taken as they are if rows are aligned.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import abi, sdpa
from .cache import digest
from .loader import runtime
from .operands import DTYPES, align, bias_rows, check_operands, pointer, positive, set_views

# A process may hold this package twice, e.g. installed and inside a node pack: each copy has ops of its own.
NAMESPACE = "instructx" if __name__.startswith("instructx_core.") else f"instructx_{digest(__name__)[:8]}"

# Written out: what torch infers from annotations differs between its releases.
SCHEMA = (
    "(Tensor q, Tensor k, Tensor v, float scale, Tensor? key_bias=None, Tensor? extra_k=None, Tensor? extra_v=None)"
    " -> (Tensor, Tensor)"
)


@torch.library.custom_op(f"{NAMESPACE}::attention", mutates_args=(), schema=SCHEMA)
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    key_bias: Tensor | None = None,
    extra_k: Tensor | None = None,
    extra_v: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Exact attention: (B, Sq, H, D) in q's dtype and LSE (B, H, Sq) float32, fp32 softmax.

    key_bias (B, 1 or H, Skv + Skv2) float32 is added to the logits. extra_k, extra_v: a second segment of keys.
    """
    check_operands(q, k, v, extra_k, extra_v)
    q, scale = positive(q, scale)
    q, k, v = align(q), align(k), align(v)
    batch, sq, heads, dim = q.shape
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse = torch.empty((batch, heads, sq), dtype=torch.float32, device=q.device)
    arguments = abi.AttentionArgs(scale=scale, heads=heads, sq=sq, skv=k.shape[1], lse=pointer(lse))
    if extra_k is not None and extra_v is not None and extra_k.shape[1]:
        extra_k, extra_v = align(extra_k), align(extra_v)
        arguments.skv2 = extra_k.shape[1]
        set_views(arguments, k2=extra_k, v2=extra_v)
    if key_bias is not None:
        key_bias = bias_rows(key_bias, q, k.shape[1] + arguments.skv2)
        arguments.bias, arguments.bias_sb = key_bias.data_ptr(), key_bias.stride(0) * 4
        arguments.bias_sh = key_bias.stride(1) * 4 if key_bias.shape[1] > 1 else 0
    set_views(arguments, q=q, k=k, v=v, o=out)
    name = f"attention_{DTYPES[q.dtype]}_d{dim}"
    runtime().launch(name, arguments, abi.attention_grid(batch, heads, sq), q.device, heads)
    return out, lse


def fake_output(q: Tensor, *rest: Any, **named: Any) -> tuple[Tensor, Tensor]:
    batch, sq, heads, _ = q.shape
    return torch.empty(q.shape, dtype=q.dtype, device=q.device), q.new_empty((batch, heads, sq), dtype=torch.float32)


# Position of an input of the op -> position among the saved tensors; input 3 is the scale.
_SAVED = {0: 0, 1: 1, 2: 2, 4: 3, 5: 4, 6: 5}


def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.scale = inputs[3]
    ctx.save_for_backward(*(inputs[i] for i in _SAVED))
    ctx.set_materialize_grads(False)


def recompute(ctx: Any, grad_out: Tensor | None, grad_lse: Tensor | None) -> tuple[Any, ...]:
    """Gradients of SDPA at the same inputs: exact attention's, also for the quantised forward (straight through)."""
    grads: list[Any] = [None] * 7
    need = [i for i in _SAVED if ctx.needs_input_grad[i]]
    if not need or (grad_out is None and grad_lse is None):
        return tuple(grads)
    with torch.enable_grad():
        leaves = [None if saved is None else saved.detach() for saved in ctx.saved_tensors]
        wanted = [leaves[_SAVED[i]].requires_grad_() for i in need]
        q, k, v, key_bias, extra_k, extra_v = leaves
        outputs, weights = [], []
        if grad_out is not None:
            outputs.append(sdpa.attention(q, k, v, ctx.scale, key_bias, extra_k, extra_v))
            weights.append(grad_out)
        if grad_lse is not None:
            outputs.append(sdpa.log_sum_exp(q, k, ctx.scale, key_bias, extra_k))
            weights.append(grad_lse)
        found = torch.autograd.grad(outputs, wanted, weights, allow_unused=True)
    for i, grad in zip(need, found, strict=True):
        grads[i] = grad
    return tuple(grads)


attention.register_fake(fake_output)
attention.register_autograd(recompute, setup_context=keep)
