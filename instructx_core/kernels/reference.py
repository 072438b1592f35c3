"""What the kernels compute, written down in plain torch: the oracle of their tests and the definition in the docs.

Place in the data flow: nothing at run time; tests compare csrc/ with it in float64, documentation points at it.
Follows Wan's self-attention (RMSNorm over all heads, then 3D RoPE on interleaved pairs) and docs/kernels.md: a fixed
signed Hadamard rotation, a shift of K that softmax cancels, int8 with one scale per token and head, V scaled by 2^-e.
Legend: B batch, S tokens, H heads, D head dim (a power of two), L keys of both segments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .operands import NO_NORM_NO_ROPE, NormRope

# 128 fixed signs, one bit a channel (1: negative): the first binary digits of pi's fraction. Also in csrc/prologue.cu.
SIGN_WORDS = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
SHIFT_LIMIT = 2.0**60  # the K shift and the largest scale are capped here, so that no product can overflow float32
SCALE_LIMIT = 2.0**50
TINY = 16e-30  # a row whose largest value is below this is stored as zeros


def attention(
    q_BSHD: Tensor,
    k_BSHD: Tensor,
    v_BSHD: Tensor,
    scale: float,
    key_bias: Tensor | None = None,
    k2_BSHD: Tensor | None = None,
    v2_BSHD: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """softmax(scale q k^T + key_bias) v over the keys of both segments.

    key_bias: [B, 1 or H, L] added to the logits, -inf masks. Returns o [B,S,H,D] and lse [B,H,S] in `dtype`; a row with
    every key masked gives 0 and -inf.
    """
    k, v = k_BSHD, v_BSHD
    if k2_BSHD is not None and v2_BSHD is not None:
        k, v = torch.cat((k, k2_BSHD), 1), torch.cat((v, v2_BSHD), 1)
    logits = torch.einsum("bqhd,bkhd->bhqk", q_BSHD.to(dtype), k.to(dtype)) * scale
    if key_bias is not None:
        logits = logits + key_bias.to(dtype)[:, :, None]
    lse = torch.logsumexp(logits, -1)
    probability = torch.exp(logits - lse[..., None]).nan_to_num(0.0) if key_bias is not None else logits.softmax(-1)
    return torch.einsum("bhqk,bkhd->bqhd", probability, v.to(dtype)), lse


def rms_norm(x_BSHD: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """Wan's RMSNorm across heads: over all H*D values of a token. weight [H*D], or None: x unchanged."""
    if weight is None:
        return x_BSHD
    wide = x_BSHD.flatten(2)
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight.to(wide.dtype)).view_as(x_BSHD)


def rope(x_BSHD: Tensor, cos: Tensor | None, sin: Tensor | None) -> Tensor:
    """Rotates the interleaved pairs (2i, 2i+1) by the angle whose cos and sin [S or B,S, D/2] are given."""
    if cos is None or sin is None:
        return x_BSHD
    c, s = (table.to(x_BSHD.dtype).unsqueeze(-2) for table in (cos, sin))
    even, odd = x_BSHD[..., 0::2], x_BSHD[..., 1::2]
    return torch.stack((even * c - odd * s, even * s + odd * c), -1).flatten(-2)


def hadamard_matrix(head_dim: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Row-signed, orthonormal Sylvester matrix M: the rotation is x @ M. Entry (i, j): sign_i (-1)^popcount(i & j)."""
    matrix = torch.ones((1, 1), dtype=dtype)
    while matrix.shape[0] < head_dim:
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)), 0)
    signs = [-1.0 if SIGN_WORDS[d >> 5] >> (d & 31) & 1 else 1.0 for d in range(head_dim)]
    return torch.tensor(signs, dtype=dtype)[:, None] * matrix / math.sqrt(head_dim)


def rotate(x_BSHD: Tensor) -> Tensor:
    """The signed Hadamard rotation; q . k is unchanged when both are rotated."""
    return x_BSHD @ hadamard_matrix(x_BSHD.shape[-1], x_BSHD.dtype)


def k_shift(k_BSHD: Tensor, sample_stride: int) -> Tensor:
    """Mean [B,H,D] of every `sample_stride`-th key. Any vector would do: softmax cancels q . shift."""
    return k_BSHD[:, ::sample_stride].clamp(-SHIFT_LIMIT, SHIFT_LIMIT).mean(1)


def quantize(x_BSHD: Tensor) -> tuple[Tensor, Tensor]:
    """int8 values and their scale [B,H,S]: x is about int8 * scale, the largest value of a row becomes 127."""
    top = x_BSHD.abs().amax(-1, keepdim=True)
    top = torch.where(top < TINY, torch.zeros_like(top), top)
    values = torch.where(top > 0, x_BSHD * (127.0 / top), torch.zeros_like(x_BSHD)).round().to(torch.int8)
    return values, (top / 127.0).clamp(max=SCALE_LIMIT).squeeze(-1).transpose(1, 2).contiguous()


def v_exponent(v_max_BH: Tensor) -> Tensor:
    """e = floor(log2 max|v|), at least -126 (also for max 0): v * 2^-e lies in (-2, 2), so fp16 sums stay finite."""
    exponent = torch.frexp(v_max_BH).exponent
    return torch.where(v_max_BH > 0, exponent - 1, torch.full_like(exponent, -126)).clamp(min=-126)


def scale_v(v_BSHD: Tensor, v_max_BH: Tensor) -> Tensor:
    """float16 v * 2^-e."""
    return torch.ldexp(v_BSHD, -v_exponent(v_max_BH)[:, None, :, None]).to(torch.float16)


@dataclass
class Int8Inputs:
    """Inputs of the int8 kernel, and what the prologue saw before rounding (for tolerances)."""

    q8: Tensor
    k8: Tensor
    v16: Tensor
    q_scale: Tensor
    k_scale: Tensor
    lse_shift: Tensor
    q_rotated: Tensor
    k_rotated: Tensor


def prologue(
    q_BSHD: Tensor,
    k_BSHD: Tensor,
    v_BSHD: Tensor,
    scale: float,
    kshift_BHD: Tensor,
    v_max_BH: Tensor,
    pending: NormRope = NO_NORM_NO_ROPE,
) -> Int8Inputs:
    """Norm, RoPE, K shift, rotation, quantisation and V scale of one segment, as `qkv_prologue` does in one pass."""
    norm_q, norm_k, cos, sin, eps = pending
    q = rope(rms_norm(q_BSHD.double(), norm_q, eps), cos, sin)
    k = rope(rms_norm(k_BSHD.double(), norm_k, eps), cos, sin)
    shift = kshift_BHD.double()
    q_rotated, k_rotated = rotate(q), rotate(k - shift[:, None])
    (q8, q_scale), (k8, k_scale) = quantize(q_rotated), quantize(k_rotated)
    lse_shift = torch.einsum("bshd,bhd->bhs", q, shift) * scale
    return Int8Inputs(q8, k8, scale_v(v_BSHD.double(), v_max_BH), q_scale, k_scale, lse_shift, q_rotated, k_rotated)


def integer_scores(q8_BSHD: Tensor, k8_BSHD: Tensor) -> Tensor:
    """Exact int32 q8 k8^T [B,H,Sq,Skv]."""
    q, k = q8_BSHD.transpose(1, 2).to(torch.int32), k8_BSHD.transpose(1, 2).to(torch.int32)
    return q @ k.transpose(-1, -2)


def attention_int8(
    q8_BSHD: Tensor,
    k8_BSHD: Tensor,
    v16_BSHD: Tensor,
    q_scale_BHS: Tensor,
    k_scale_BHS: Tensor,
    v_max_BH: Tensor,
    scale: float,
    shift_BHQK: Tensor,
) -> tuple[Tensor, Tensor]:
    """What exact arithmetic would make of the int8 kernel's inputs (both segments concatenated): o and lse.

    shift: what the K shift took off the logits, equal within a segment.
    """
    scores = integer_scores(q8_BSHD, k8_BSHD).double()
    logits = scores * q_scale_BHS.double()[..., None] * k_scale_BHS.double()[:, :, None] * scale + shift_BHQK.double()
    out = torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), v16_BSHD.double())
    return torch.ldexp(out, v_exponent(v_max_BH)[:, None, :, None]), torch.logsumexp(logits, -1)
