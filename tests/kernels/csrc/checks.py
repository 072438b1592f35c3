"""What the kernels must fulfil, as functions of an emulator: the tests run them on the real sources, the mutation tests
on sources with a planted bug, where each must fail.

Bounds are those of the kernels' specification: exact relL1 <= 3e-3, LSE <= 1e-5 against float64, int8 relL1 <= 1.5e-2
and cosine >= 0.9998, integer scores equal bit for bit, no non-finite output, the same bits on every run.
Legend: B batch, S tokens, H heads, D head dim.
"""

from __future__ import annotations

import ctypes
import mmap

import torch
from emulator import Emulator, Norm, fill
from torch import Tensor

from instructx_core.kernels import abi, reference
from instructx_core.kernels.operands import NormRope

EXACT_ERROR, LSE_ERROR = 3e-3, 1e-5
INT8_ERROR, INT8_COSINE, INT8_LSE_ERROR = 1.5e-2, 0.9998, 0.05
KINDS = ("random", "offset", "outlier", "wan")
Shape = tuple[int, int, int, int]  # batch, heads, sq, skv


def relative_error(got: Tensor, want: Tensor) -> float:
    assert torch.isfinite(got).all(), "non-finite output"
    return float((got.double() - want).abs().sum() / want.abs().sum())


def cosine(got: Tensor, want: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(got.double().flatten(), want.flatten(), 0))


def inputs(kind: str, shape: Shape, dim: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v: strided views of one packed tensor where the lengths allow it.

    offset: K lies 100 spreads off zero in a fifth of its channels. outlier: a few strong channels. wan: normalised
    tokens with correlated neighbours and logits of standard deviation about 2.
    """
    batch, heads, sq, skv = shape
    generator = torch.Generator().manual_seed(seed)
    length = max(sq, skv)
    packed = torch.randn((batch, length, 3, heads, dim), generator=generator)
    if kind == "offset":
        packed[:, :, 1, :, ::5] += 100.0 * torch.randn((heads, packed[..., ::5].shape[-1]), generator=generator).sign()
        packed[:, :, 0, :, ::5] *= 0.05
    if kind == "outlier":
        packed[:, :, 0, :, :3] *= 3.0
        packed[:, :, 1, :, :3] *= 6.0
        packed[:, :, 2] *= 300.0
    if kind == "wan":
        packed[:, 1:] = 0.8 * packed[:, :-1] + 0.6 * packed[:, 1:]
        packed[:, :, :2] *= 1.4 * (dim / 128) ** 0.25
    q, k, v = packed.to(dtype).unbind(2)
    return q[:, :sq], k[:, :skv], v[:, :skv]


def exact(emu: Emulator, kind: str, shape: Shape, dim: int, dtype: torch.dtype, skv2: int = 0, biased: int = 0) -> None:
    """`biased`: 0 no key bias, else its number of heads (1: shared)."""
    q, k, v = inputs(kind, shape, dim, dtype)
    k2 = v2 = bias = None
    if skv2:
        _, k2, v2 = inputs(kind, (shape[0], shape[1], 1, skv2), dim, dtype, 1)
    if biased:
        bias = torch.randn(shape[0], biased, shape[3] + skv2)
        bias[:, :, 1::3] = float("-inf")
    o, lse = emu.attention(q, k, v, dim**-0.5, bias, k2, v2)
    want, want_lse = reference.attention(q, k, v, dim**-0.5, bias, k2, v2)
    assert relative_error(o, want) <= EXACT_ERROR
    assert ((lse - want_lse).abs() / want_lse.abs().clamp(min=1.0)).max() <= LSE_ERROR


def int8(emu: Emulator, kind: str, shape: Shape, dim: int, skv2: int = 0, dtype: torch.dtype = torch.bfloat16) -> float:
    """Statistics, prologue and attention together; returns the relative error."""
    q, k, v = inputs(kind, shape, dim, dtype)
    k2 = v2 = second = None
    if skv2:
        _, k2, v2 = inputs(kind, (shape[0], shape[1], 1, skv2), dim, dtype, 1)  # K lies elsewhere than the first one's
        v2 = (v2.float() * 40).to(dtype)  # the exponent must come from both segments
        second = (k2, v2, None)
    o, lse = emu.int8(q, k, v, dim**-0.5, None, second)
    want, want_lse = reference.attention(q, k, v, dim**-0.5, None, k2, v2)
    error = relative_error(o, want)
    assert error <= INT8_ERROR and cosine(o, want) >= INT8_COSINE, (error, cosine(o, want))
    assert torch.isfinite(lse).all() and (lse - want_lse).abs().max() <= INT8_LSE_ERROR
    return error


def int8_kernel(emu: Emulator, shape: Shape, dim: int, skv2: int = 0) -> None:
    """The attention kernel alone, against exact arithmetic on the same integers: only fp16 rounding remains."""
    batch, heads, sq, skv = shape
    generator = torch.Generator().manual_seed(3)

    def integers(length: int) -> Tensor:
        return torch.randint(-127, 128, (batch, length, heads, dim), generator=generator, dtype=torch.int8)

    def scales(length: int) -> Tensor:
        return torch.rand((batch, heads, length), generator=generator) * 0.02 + 0.005

    q8, k8, q_scale, k_scale = integers(sq), integers(skv + skv2), scales(sq), scales(skv + skv2)
    v = torch.randn((batch, skv + skv2, heads, dim), generator=generator) * 1e5
    v_max = v.abs().amax((1, 3))
    v16 = reference.scale_v(v, v_max)
    shift, shift2 = (torch.randn((batch, heads, sq), generator=generator) for _ in range(2))
    o, lse = torch.full((batch, sq, heads, dim), float("nan")).bfloat16(), torch.full((batch, heads, sq), float("nan"))
    args = abi.AttentionInt8Args()
    parts = [(x[:, :skv], x[:, skv:]) for x in (k8, v16)]
    scale_parts = k_scale[:, :, :skv].contiguous(), k_scale[:, :, skv:].contiguous()
    tensors: dict[str, Tensor | None] = {"q": q8, "k": parts[0][0], "v": parts[1][0], "o": o, "lse": lse}
    tensors |= {"q_scale": q_scale, "k_scale": scale_parts[0], "v_max": v_max, "lse_shift": shift}
    if skv2:
        tensors |= {"k2": parts[0][1], "v2": parts[1][1], "k_scale2": scale_parts[1], "lse_shift2": shift2}
    fill(
        args, tensors, ("q", "k", "v", "k2", "v2", "o"), scale=0.05, heads=heads, sq=sq, skv=skv, skv2=skv2, out_bf16=1
    )
    emu.kernel(f"attention_int8_d{dim}", args, abi.attention_grid(batch, heads, sq), heads)
    shifts = torch.cat([x[..., None].expand(-1, -1, -1, n) for x, n in ((shift, skv), (shift2, skv2))], -1)
    want, want_lse = reference.attention_int8(q8, k8, v16, q_scale, k_scale, v_max, 0.05, shifts)
    assert relative_error(o, want) <= 3e-3
    assert (lse - want_lse).abs().max() <= 3e-5


def integer_scores(emu: Emulator, shape: Shape, dim: int) -> None:
    """The int8 kernel's own tile product, bit for bit."""
    batch, heads, sq, skv = shape
    q8, k8 = (torch.randint(-127, 128, (batch, n, heads, dim), dtype=torch.int8) for n in (sq, skv))
    q8[:, 0], k8[:, 0] = 127, -127  # the largest sum
    out = torch.full((batch, heads, sq, skv), -1, dtype=torch.int32)
    args = abi.AttentionInt8Args()
    fill(args, {"q": q8, "k": k8, "o": out}, ("q", "k"), heads=heads, sq=sq, skv=skv)
    shared = abi.attention_int8_shared(dim)
    emu.launch(f"probe_integer_scores_d{dim}", args, abi.attention_grid(batch, heads, sq), shared)
    assert torch.equal(out, reference.integer_scores(q8, k8))


def prologue(emu: Emulator, dim: int, heads: int, tokens: int, dtype: torch.dtype, normed: bool, roped: bool) -> None:
    """Every output of the statistics and the prologue against float64."""
    q, k, v = inputs("outlier", (2, heads, tokens, tokens), dim, dtype)
    norm = Norm()
    if normed:
        norm.wq, norm.wk = ((1 + 0.2 * torch.randn(heads * dim)).to(dtype) for _ in range(2))
    if roped:
        angle = torch.rand(tokens, dim // 2).repeat_interleave(2, 1) * 6.3  # repeated pairs, as diffusers has them
        norm.cos, norm.sin = angle.cos()[:, ::2], angle.sin()[:, ::2]
    scale = dim**-0.5
    kshift, v_max = emu.statistics(k, v, norm)
    stride = abi.stats_plan(tokens)[0]
    keys = reference.rope(reference.rms_norm(k.double(), norm.wk, norm.eps), norm.cos, norm.sin)
    want_shift = reference.k_shift(keys, stride)
    assert torch.allclose(kshift.double(), want_shift, rtol=1e-5, atol=1e-5 * float(want_shift.abs().max()))
    v_top = v_max.view(torch.float32)
    assert torch.equal(v_top, v.float().abs().amax((1, 3)))

    got = emu.prologue(q, k, v, kshift, v_max, scale, norm)
    want = reference.prologue(q, k, v, scale, kshift, v_top, NormRope(norm.wq, norm.wk, norm.cos, norm.sin, norm.eps))
    assert torch.equal(got.v16, want.v16)
    assert got.lse_shift is not None
    assert torch.allclose(got.lse_shift.double(), want.lse_shift, rtol=1e-4, atol=1e-4 * float(want.lse_shift.std()))
    for values, scales, rotated in ((got.q8, got.q_scale, want.q_rotated), (got.k8, got.k_scale, want.k_rotated)):
        step = scales.double().transpose(1, 2)[..., None]
        top = rotated.abs().amax(-1, keepdim=True)
        assert ((step * 127.0 / top - 1.0).abs() < 2e-5).all()
        # Within half a step: only a value that float32 puts on the other side of a tie may differ by more.
        assert (values * step - rotated).abs().le(step * 0.502 + 1e-30).all()


def schedules(emu: Emulator) -> None:
    """Bits do not depend on the order in which warps run."""
    q, k, v = inputs("random", (1, 1, 130, 70), 64, torch.bfloat16)
    results = []
    for seed in (1, 77):
        emu.seed = seed
        results.append((*emu.attention(q, k, v, 0.125), *emu.int8(q, k, v, 0.125)))
    emu.seed = 1
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


class Fenced:
    """Copies tensors so that each ends where unreadable memory begins: an access past the end ends the process."""

    def __init__(self) -> None:
        self.maps: list[mmap.mmap] = []

    def __call__(self, tensor: Tensor) -> Tensor:
        page = mmap.PAGESIZE
        size = tensor.numel() * tensor.element_size()
        body = -(-size // page) * page
        area = mmap.mmap(-1, body + page)
        self.maps.append(area)
        base = ctypes.addressof(ctypes.c_char.from_buffer(area))
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mprotect(ctypes.c_void_p(base + body), ctypes.c_size_t(page), 0) == 0
        raw = torch.frombuffer(area, dtype=torch.uint8, count=size, offset=body - size)
        return raw.view(tensor.dtype).view(tensor.shape).copy_(tensor)


def fences(emu: Emulator) -> None:
    """Neither attention kernel touches a byte past its tensors; tails everywhere. A crash is the failure."""
    fence = Fenced()
    q, k, v = (fence(x) for x in inputs("random", (1, 1, 129, 65), 128, torch.bfloat16))
    o, lse = fence(torch.zeros_like(q)), fence(torch.zeros(1, 1, 129))
    args = abi.AttentionArgs()
    tensors: dict[str, Tensor | None] = {"q": q, "k": k, "v": v, "o": o, "lse": lse}
    fill(args, tensors, ("q", "k", "v", "o"), scale=0.1, heads=1, sq=129, skv=65, skv2=0)
    emu.kernel("attention_bf16_d128", args, abi.attention_grid(1, 1, 129), 1)
    assert relative_error(o, reference.attention(q, k, v, 0.1)[0]) <= EXACT_ERROR


def far_strides(emu: Emulator) -> None:
    """Rows 48 MiB apart: offsets pass 2^32 bytes. Only the touched pages exist."""
    rows, dim, gap = 96, 128, 48 * 1024 * 1024
    area = mmap.mmap(-1, rows * gap, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0))
    raw = torch.frombuffer(area, dtype=torch.bfloat16)
    k = raw.as_strided((1, rows, 1, dim), (0, gap // 2, dim, 1))
    v = raw.as_strided((1, rows, 1, dim), (0, gap // 2, dim, 1), dim)
    q, near_k, near_v = inputs("random", (1, 1, 20, rows), dim, torch.bfloat16)
    k.copy_(near_k)
    v.copy_(near_v)
    o, _ = emu.attention(q, k, v, 0.1)
    assert relative_error(o, reference.attention(q, near_k, near_v, 0.1)[0]) <= EXACT_ERROR


def statistics(emu: Emulator) -> None:
    """More tokens than blocks: a block normalises several tokens one after the other."""
    k, v = (torch.randn((1, 300, 9, 64), generator=torch.Generator().manual_seed(5)).bfloat16() for _ in range(2))
    weight = torch.ones(9 * 64).bfloat16()
    kshift, v_max = emu.statistics(k, v, Norm(wk=weight))
    want = reference.k_shift(reference.rms_norm(k.double(), weight, 1e-6), 1)
    assert torch.allclose(kshift.double(), want, atol=1e-6)
    assert torch.equal(v_max.view(torch.float32), v.float().abs().amax((1, 3)))
