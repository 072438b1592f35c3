"""Fused attention for Wan's DiT: our CUDA kernels where they are faster and proven on the card, else torch's.

Place in the data flow: the lowest layer, below every model; imports torch only. The sources in csrc/ are compiled by
the NVRTC inside the user's torch when a model first runs on a CUDA card; importing compiles and opens nothing.
Design, numerics and how to read the report: docs/kernels.md.
Legend: B batch, S tokens, H heads, D head dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import sdpa
from .errors import KernelError
from .operands import Inputs, NormRope
from .report import report
from .select import MODES, resolve_mode
from .session import Session, attention_auto, of_mode, traces_to_host

__all__ = ["MODES", "KernelError", "NormRope", "Session", "attention", "attention_lse", "report", "resolve_mode"]


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    key_bias: Tensor | None = None,
    extra_k: Tensor | None = None,
    extra_v: Tensor | None = None,
    mode: str = "auto",
) -> Tensor:
    """Softmax attention of q over the keys (k, v), then (extra_k, extra_v): (B, Sq, H, D) in q's dtype.

    q (B, Sq, H, D); k, v (B, Skv, H, D); extra_k, extra_v (B, Skv2, H, D): a second segment, attended to as if it
    were concatenated. Any strides. key_bias (B, 1 or H, Skv + Skv2) float: added to the logits, -inf hides a key.
    scale: of q.k, default D ** -0.5. mode: "auto" (fastest proven path), "exact", "int8", "off" (torch only);
    INSTRUCTX_ATTENTION fills in for "auto", and "off" there overrules all.
    Differentiable on every path; what our kernels do not take runs on torch's scaled_dot_product_attention, and
    `report()` says why. Raises ValueError when shapes disagree.
    """
    inputs = _checked(Inputs.of(q, k, v, scale, key_bias=key_bias, extra_k=extra_k, extra_v=extra_v))
    if not torch.compiler.is_compiling():
        return of_mode(mode).attend(inputs)
    # A session can't be made inside of a graph.
    return sdpa.attention(*inputs) if traces_to_host(q, mode) else attention_auto(*inputs, mode, 0, True, False)[0]


def attention_lse(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    key_bias: Tensor | None = None,
    extra_k: Tensor | None = None,
    extra_v: Tensor | None = None,
    mode: str = "auto",
) -> tuple[Tensor, Tensor]:
    """As `attention`, with the log-sum-exp (B, H, Sq) float32, to merge with attention over other keys."""
    inputs = _checked(Inputs.of(q, k, v, scale, key_bias=key_bias, extra_k=extra_k, extra_v=extra_v))
    if not torch.compiler.is_compiling():
        return of_mode(mode).attend_lse(inputs)
    return sdpa.attention_lse(*inputs) if traces_to_host(q, mode) else attention_auto(*inputs, mode, 0, True, True)


def _checked(inputs: Inputs) -> Inputs:
    q, k, v, _, key_bias, extra_k, extra_v = inputs
    batch, _, heads, dim = q.shape if q.ndim == 4 else (0, 0, 0, 0)
    for name, part in (("q", q), ("k", k), ("v", v), ("extra_k", extra_k), ("extra_v", extra_v)):
        if part is not None and (part.ndim != 4 or (part.shape[0], *part.shape[2:]) != (batch, heads, dim)):
            raise ValueError(f"{name} is {tuple(part.shape)}; give (B, S, H, D) with q's B, H and D: {tuple(q.shape)}")
    if (extra_k is None) != (extra_v is None):
        raise ValueError("extra_k and extra_v belong together; give both or neither")
    pairs = [(k, v)] + ([(extra_k, extra_v)] if extra_k is not None and extra_v is not None else [])
    if any(keys.shape[1] != values.shape[1] for keys, values in pairs):
        raise ValueError(f"keys and values differ in length ({k.shape[1]}, {v.shape[1]}); each key needs its value")
    count = sum(keys.shape[1] for keys, _ in pairs)
    if key_bias is not None and tuple(key_bias.shape) not in ((batch, 1, count), (batch, heads, count)):
        raise ValueError(f"key_bias is {tuple(key_bias.shape)}; it must be ({batch}, 1 or {heads}, {count})")
    return inputs
