"""The int8 path as ops: `torch.ops.instructx.{kv_stats, qkv_prologue, attention_int8, attention_quantizing}`.

Place in the data flow: from session.py to loader.py, beside exact.py. Statistics of the keys; one pass that norms,
rotates and quantises the projections; attention of the result. The backward is exact attention's, straight through.
Legend: B batch, S tokens, H heads, D head dim (64 or 128). Strided views are taken as they are if rows are aligned.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import abi, exact
from .errors import Refusal
from .exact import NAMESPACE
from .loader import runtime
from .operands import (
    NO_NORM_NO_ROPE,
    Inputs,
    NormRope,
    align,
    check_operands,
    pack,
    pointer,
    positive,
    set_rope,
    set_views,
)

_KV_STATS = (
    "(Tensor k, Tensor v, Tensor? norm_k=None, Tensor? cos=None, Tensor? sin=None, float eps=1e-6,"
    " Tensor? extra_k=None, Tensor? extra_v=None) -> (Tensor, Tensor, Tensor)"
)
_QKV_PROLOGUE = (
    "(Tensor? q, Tensor k, Tensor v, Tensor k_shift, Tensor v_max, float scale, Tensor? norm_q=None,"
    " Tensor? norm_k=None, Tensor? cos=None, Tensor? sin=None, float eps=1e-6, Tensor? extra_k_shift=None,"
    " int first_head=0, int head_count=0)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_ATTENTION_INT8 = (
    "(Tensor q8, Tensor k8, Tensor v16, Tensor q_scale, Tensor k_scale, Tensor v_max, float scale, bool bfloat16,"
    " Tensor? lse_shift=None, Tensor? extra_k8=None, Tensor? extra_v16=None, Tensor? extra_k_scale=None,"
    " Tensor? extra_lse_shift=None) -> (Tensor, Tensor)"
)


@torch.library.custom_op(f"{NAMESPACE}::kv_stats", mutates_args=(), schema=_KV_STATS)
def kv_stats(
    k: Tensor,
    v: Tensor,
    norm_k: Tensor | None = None,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    eps: float = 1e-6,
    extra_k: Tensor | None = None,
    extra_v: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """What the prologue must know of all tokens: K's shift (B, H, D) float32 and max |V| (B, H) as int32 float bits.

    The shift is the mean of at most 1024 strided keys after norm and RoPE; softmax does not see it. A second segment
    (no norm, no RoPE) has a shift of its own, the third result, else (B, H, 0); the maximum covers both.
    """
    check_operands(None, k, v, extra_k, extra_v)
    v_max = torch.zeros((k.shape[0], k.shape[2]), dtype=torch.int32, device=k.device)
    shift = _segment_stats(k, v, v_max, norm_k, cos, sin, eps)
    if extra_k is None or extra_v is None or not extra_k.shape[1]:
        return shift, v_max, shift.new_empty((*shift.shape[:2], 0))
    return shift, v_max, _segment_stats(extra_k, extra_v, v_max)


def _segment_stats(
    k: Tensor,
    v: Tensor,
    v_max: Tensor,
    norm_k: Tensor | None = None,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """The shift (B, H, D) of one segment; raises `v_max` in place."""
    k, v = align(k), align(v)
    batch, skv, heads, dim = k.shape
    stride, samples, chunks = abi.stats_plan(skv)
    weight = _weight("norm_k", norm_k, k)
    partial = torch.empty((batch, chunks, heads * dim), dtype=torch.float32, device=k.device)
    shift = torch.empty((batch, heads, dim), dtype=torch.float32, device=k.device)
    arguments = abi.KvStatsArgs(
        eps=eps,
        heads=heads,
        skv=skv,
        sample_stride=stride,
        chunks=chunks,
        is_bf16=k.dtype == torch.bfloat16,
        wk=pointer(weight),
        v_max=v_max.data_ptr(),
        partial=partial.data_ptr(),
    )
    set_views(arguments, k=k, v=v)
    _tables = set_rope(arguments, k, skv, cos, sin)
    launch = runtime().launch
    launch(f"kv_stats_d{dim}", arguments, abi.stats_grid(batch, chunks), k.device, heads)
    last = abi.KvShiftArgs(
        partial=partial.data_ptr(), kshift=shift.data_ptr(), width=heads * dim, chunks=chunks, samples=samples
    )
    launch("kv_shift", last, abi.shift_grid(batch, heads, dim), k.device, heads)
    return shift


@kv_stats.register_fake
def _fake_kv_stats(
    k: Tensor,
    v: Tensor,
    norm_k: Any = None,
    cos: Any = None,
    sin: Any = None,
    eps: float = 1e-6,
    extra_k: Tensor | None = None,
    extra_v: Any = None,
) -> tuple[Tensor, Tensor, Tensor]:
    batch, _, heads, dim = k.shape
    extra = dim if extra_k is not None and extra_k.shape[1] else 0
    return (
        k.new_empty((batch, heads, dim), dtype=torch.float32),
        k.new_empty((batch, heads), dtype=torch.int32),
        k.new_empty((batch, heads, extra), dtype=torch.float32),
    )


@torch.library.custom_op(f"{NAMESPACE}::qkv_prologue", mutates_args=(), schema=_QKV_PROLOGUE)
def qkv_prologue(
    q: Tensor | None,
    k: Tensor,
    v: Tensor,
    k_shift: Tensor,
    v_max: Tensor,
    scale: float,
    norm_q: Tensor | None = None,
    norm_k: Tensor | None = None,
    cos: Tensor | None = None,
    sin: Tensor | None = None,
    eps: float = 1e-6,
    extra_k_shift: Tensor | None = None,
    first_head: int = 0,
    head_count: int = 0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(q8, k8, v16, q_scale, k_scale, lse_shift, extra_lse_shift) from the projections (B, S, H, D), in one pass.

    RMSNorm across heads (norm_q, norm_k: (H*D,) weights as activations, None: off), RoPE (cos, sin (S, D/2) float32,
    None: off), signed Hadamard, K shift, int8 per token and head, V times a power of two in fp16. q None: the second
    segment; its q parts come back empty. extra_k_shift: the second segment's, for extra_lse_shift (else empty).
    first_head, head_count: results of these heads alone (0: of all); the norm is over all heads of what is given.
    """
    check_operands(q, k, v)
    k, v, q = align(k), align(v), None if q is None else align(q)
    batch, skv, heads, dim = k.shape
    count, sq = head_count or heads, 0 if q is None else q.shape[1]
    if first_head < 0 or first_head + count > heads:
        raise Refusal(f"heads {first_head} to {first_head + count} of {heads}")
    results = _prologue_results(k, sq, extra_k_shift, count)
    weights = _weight("norm_q", norm_q, k), _weight("norm_k", norm_k, k)
    shifts = _shift("k_shift", k_shift, k), _shift("extra_k_shift", extra_k_shift, k)
    v_max = pack("v_max", v_max, torch.int32, k.device, (batch, heads))
    q8, k8, v16, q_scale, k_scale, lse_shift, extra_lse_shift = results
    arguments = abi.PrologueArgs(
        eps=eps,
        scale=scale,
        heads=count,
        all_heads=heads,
        first_head=first_head,
        sq=sq,
        skv=skv,
        is_bf16=k.dtype == torch.bfloat16,
        wq=pointer(weights[0]),
        wk=pointer(weights[1]),
        kshift=pointer(shifts[0]),
        kshift2=pointer(shifts[1]),
        v_max=v_max.data_ptr(),
        q8=pointer(q8),
        k8=pointer(k8),
        v16=pointer(v16),
        q_scale=pointer(q_scale),
        k_scale=pointer(k_scale),
        lse_shift=pointer(lse_shift),
        lse_shift2=pointer(extra_lse_shift),
    )
    set_views(arguments, q=q, k=k, v=v)
    _tables = set_rope(arguments, k, max(sq, skv), cos, sin)
    runtime().launch(f"qkv_prologue_d{dim}", arguments, abi.prologue_grid(batch, sq, skv), k.device, heads)
    return results


def _weight(name: str, weight: Tensor | None, k: Tensor) -> Tensor | None:
    return None if weight is None else pack(name, weight, k.dtype, k.device, (k.shape[2] * k.shape[3],))


def _shift(name: str, shift: Tensor | None, k: Tensor) -> Tensor | None:
    """None where a second segment's is missing or empty."""
    if shift is None or not shift.numel():
        return None
    return pack(name, shift, torch.float32, k.device, (k.shape[0], *k.shape[2:]))


def _prologue_results(
    k: Tensor, sq: int | torch.SymInt, extra_k_shift: Tensor | None, heads: int | torch.SymInt
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, skv, _, dim = k.shape
    extra = 0 if extra_k_shift is None or not extra_k_shift.shape[-1] else sq

    def empty(dtype: torch.dtype, *shape: Any) -> Tensor:
        return k.new_empty(shape, dtype=dtype)

    return (
        empty(torch.int8, batch, sq, heads, dim),
        empty(torch.int8, batch, skv, heads, dim),
        empty(torch.float16, batch, skv, heads, dim),
        empty(torch.float32, batch, heads, sq),
        empty(torch.float32, batch, heads, skv),
        empty(torch.float32, batch, heads, sq),
        empty(torch.float32, batch, heads, extra),
    )


@qkv_prologue.register_fake
def _fake_qkv_prologue(
    q: Tensor | None,
    k: Tensor,
    v: Any,
    k_shift: Any,
    v_max: Any,
    scale: float,
    norm_q: Any = None,
    norm_k: Any = None,
    cos: Any = None,
    sin: Any = None,
    eps: float = 1e-6,
    extra_k_shift: Tensor | None = None,
    first_head: int = 0,
    head_count: int = 0,
) -> tuple[Tensor, ...]:
    return _prologue_results(k, 0 if q is None else q.shape[1], extra_k_shift, head_count or k.shape[2])


@torch.library.custom_op(f"{NAMESPACE}::attention_int8", mutates_args=(), schema=_ATTENTION_INT8)
def attention_int8(
    q8: Tensor,
    k8: Tensor,
    v16: Tensor,
    q_scale: Tensor,
    k_scale: Tensor,
    v_max: Tensor,
    scale: float,
    bfloat16: bool,
    lse_shift: Tensor | None = None,
    extra_k8: Tensor | None = None,
    extra_v16: Tensor | None = None,
    extra_k_scale: Tensor | None = None,
    extra_lse_shift: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention of what `qkv_prologue` made: (B, Sq, H, D) bfloat16 or float16, and LSE (B, H, Sq) float32."""
    batch, sq, heads, _ = q8.shape
    out = q8.new_empty(q8.shape, dtype=torch.bfloat16 if bfloat16 else torch.float16)
    lse = q8.new_empty((batch, heads, sq), dtype=torch.float32)
    first = (q8, k8, v16, q_scale, k_scale, lse_shift)
    _attend(out, lse, first, (extra_k8, extra_v16, extra_k_scale, extra_lse_shift), v_max, scale)
    return out, lse


def _attend(
    out: Tensor,
    lse: Tensor,
    first: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None],
    second: tuple[Tensor | None, ...],
    v_max: Tensor,
    scale: float,
) -> None:
    """Writes out (a view with aligned rows) and lse (contiguous) of the heads that q8 has.

    first: q8, k8, v16, q_scale, k_scale, lse_shift; second: k8, v16, k_scale, lse_shift of the second segment or Nones.
    """
    q8, k8, v16, q_scale, k_scale, lse_shift = first
    q8, scale = positive(q8, scale)
    batch, sq, heads, dim = q8.shape
    _check_quantized(q8, k8, v16)
    q8, k8, v16 = align(q8), align(k8), align(v16)

    def floats(name: str, tensor: Tensor | None, length: int) -> Tensor | None:
        if tensor is None or not tensor.numel():
            return None
        return pack(name, tensor, torch.float32, q8.device, (batch, heads, length))

    kept = [floats("q_scale", q_scale, sq), floats("k_scale", k_scale, k8.shape[1]), floats("lse_shift", lse_shift, sq)]
    v_max = pack("v_max", v_max, torch.int32, q8.device, (batch, heads))
    arguments = abi.AttentionInt8Args(
        scale=scale,
        heads=heads,
        sq=sq,
        skv=k8.shape[1],
        out_bf16=int(out.dtype == torch.bfloat16),
        lse=lse.data_ptr(),
        q_scale=pointer(kept[0]),
        k_scale=pointer(kept[1]),
        v_max=v_max.data_ptr(),
        lse_shift=pointer(kept[2]),
    )
    set_views(arguments, q=q8, k=k8, v=v16, o=out)
    extra_k8, extra_v16, extra_k_scale, extra_lse_shift = second
    if extra_k8 is not None and extra_v16 is not None and extra_k8.shape[1]:
        _check_quantized(q8, extra_k8, extra_v16)
        extra_k8, extra_v16, length = align(extra_k8), align(extra_v16), extra_k8.shape[1]
        kept += [floats("extra_k_scale", extra_k_scale, length), floats("extra_lse_shift", extra_lse_shift, sq)]
        arguments.skv2, arguments.k_scale2, arguments.lse_shift2 = length, pointer(kept[3]), pointer(kept[4])
        set_views(arguments, k2=extra_k8, v2=extra_v16)
    runtime().launch(f"attention_int8_d{dim}", arguments, abi.attention_grid(batch, heads, sq), q8.device, heads)


def _check_quantized(q8: Tensor, k8: Tensor, v16: Tensor) -> None:
    kinds = (q8.dtype, k8.dtype, v16.dtype)
    if kinds != (torch.int8, torch.int8, torch.float16) or not q8.device == k8.device == v16.device:
        raise Refusal(f"int8 attention reads int8, int8, float16 on one device, not {kinds}")
    if k8.shape != v16.shape or (k8.shape[0], *k8.shape[2:]) != (q8.shape[0], *q8.shape[2:]):
        raise Refusal(f"q8 is {tuple(q8.shape)}, k8 {tuple(k8.shape)}, v16 {tuple(v16.shape)}")


@attention_int8.register_fake
def _fake_attention_int8(
    q8: Tensor,
    k8: Tensor,
    v16: Tensor,
    q_scale: Tensor,
    k_scale: Tensor,
    v_max: Tensor,
    scale: float,
    bfloat16: bool,
    *rest: Any,
    **named: Any,
) -> tuple[Tensor, Tensor]:
    out = q8.new_empty(q8.shape, dtype=torch.bfloat16 if bfloat16 else torch.float16)
    return out, q8.new_empty((q8.shape[0], q8.shape[2], q8.shape[1]), dtype=torch.float32)


def quantized_attention(inputs: Inputs, pending: NormRope = NO_NORM_NO_ROPE) -> tuple[Tensor, Tensor]:
    """Statistics, then prologue and int8 attention of some heads at a time. `pending` is done in the prologue, to the
    first segment alone."""
    q, k, v, scale, _, extra_k, extra_v = inputs
    check_operands(q, k, v, extra_k, extra_v)
    q, scale = positive(q, scale)
    # Once for all groups of heads: a copy in each of them would be a copy of everything.
    q, k, v = align(q), align(k), align(v)
    extra = None
    if extra_k is not None and extra_v is not None and extra_k.shape[1]:
        extra = align(extra_k), align(extra_v)
    norm_q, norm_k, cos, sin, eps = pending
    shift, v_max, extra_shift = kv_stats(k, v, norm_k, cos, sin, eps, *(extra or ()))
    batch, sq, heads, dim = q.shape
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse = torch.empty((batch, heads, sq), dtype=torch.float32, device=q.device)
    keys = k.shape[1] + (0 if extra is None else extra[0].shape[1])
    for first_head, count in abi.head_groups(batch * sq, batch * keys, heads, dim):
        group, part = slice(first_head, first_head + count), (first_head, count)
        q8, k8, v16, q_scale, k_scale, lse_shift, extra_lse_shift = qkv_prologue(
            q, k, v, shift, v_max, scale, norm_q, norm_k, cos, sin, eps, extra_shift, *part
        )
        second: tuple[Tensor | None, ...] = (None, None, None, None)
        if extra is not None:
            _, k8_2, v16_2, _, k_scale_2, *_ = qkv_prologue(
                None, *extra, extra_shift, v_max, scale, first_head=first_head, head_count=count
            )
            second = (k8_2, v16_2, k_scale_2, extra_lse_shift)
        rows = lse[:, group] if batch == 1 else lse.new_empty((batch, count, sq))
        first = (q8, k8, v16, q_scale, k_scale, lse_shift)
        _attend(out[:, :, group], rows, first, second, v_max[:, group], scale)
        if batch > 1:
            lse[:, group] = rows
        # Freed before the next group's are made, else two groups' would stand in memory at once.
        del q8, k8, v16, first, second
    return out, lse


@torch.library.custom_op(f"{NAMESPACE}::attention_quantizing", mutates_args=(), schema=exact.SCHEMA)
def attention_quantizing(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    key_bias: Tensor | None = None,
    extra_k: Tensor | None = None,
    extra_v: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`attention` with int8 q and k inside. Takes no key_bias (the argument keeps both signatures equal)."""
    if key_bias is not None:
        raise Refusal("the int8 kernel takes no key bias")
    return quantized_attention(Inputs(q, k, v, scale, None, extra_k, extra_v))


attention_quantizing.register_fake(exact.fake_output)
attention_quantizing.register_autograd(exact.recompute, setup_context=exact.keep)
