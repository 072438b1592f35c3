"""Checks at the edges of what the kernels address and compute, as functions of an emulator like those of `checks.py`.

Far apart: strides over 2 GiB in every dimension of every view (no big memory: only touched pages exist), keys past
32768, outputs past 2^31 values. At the edges of numbers: eps, norms that overflow, fp16's largest value.
Legend: B batch, S tokens, H heads, D head dim.
"""

from __future__ import annotations

import mmap

import checks
import torch
from emulator import Emulator, Norm, Quantized, fill, nans
from torch import Tensor

from instructx_core.kernels import abi, reference
from instructx_core.kernels.operands import NormRope

BF16 = torch.bfloat16
FAR = 2**31 + 2**20  # bytes; in 32 bits it turns negative
LAZY = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)


def lazy(dtype: torch.dtype, count: int) -> Tensor:
    """`count` values whose pages come to be when they are touched."""
    area = mmap.mmap(-1, count * dtype.itemsize, flags=LAZY)
    return torch.frombuffer(area, dtype=dtype, count=count)


def far(tensor: Tensor) -> Tensor:
    """The same values with FAR bytes and a little, another little each, between the indices of every dimension."""
    little = (0, 2**12, 2**16)
    strides = [
        (FAR + more) // tensor.element_size() if n > 1 else 0
        for n, more in zip(tensor.shape[:-1], little, strict=False)
    ]
    span = sum((n - 1) * stride for n, stride in zip(tensor.shape[:-1], strides, strict=True))
    room = lazy(tensor.dtype, span + tensor.shape[-1])
    return room.as_strided(tensor.shape, (*strides, 1)).copy_(tensor)


def exact_far(emu: Emulator) -> None:
    """q, k, v, both segments, o and bias."""
    q, k, v = checks.inputs("random", (2, 2, 3, 3), 128, BF16)
    _, k2, v2 = checks.inputs("random", (2, 2, 1, 2), 128, BF16, 1)
    bias = torch.randn(2, 2, 5)
    want, want_lse = reference.attention(q, k, v, 0.1, bias, k2, v2)
    tensors: dict[str, Tensor | None] = {
        "q": q,
        "k": k,
        "v": v,
        "k2": k2,
        "v2": v2,
        "o": torch.zeros(2, 3, 2, 128).bfloat16(),
    }
    bias = far(bias)
    tensors = {name: None if x is None else far(x) for name, x in tensors.items()} | {"bias": bias}
    tensors["lse"] = lse = nans(2, 2, 3)
    args = abi.AttentionArgs(bias_sb=bias.stride(0) * 4, bias_sh=bias.stride(1) * 4)
    fill(args, tensors, ("q", "k", "v", "k2", "v2", "o"), scale=0.1, heads=2, sq=3, skv=3, skv2=2)
    emu.kernel("attention_bf16_d128", args, abi.attention_grid(2, 2, 3), 2)
    out = tensors["o"]
    assert out is not None and checks.relative_error(out, want) <= checks.EXACT_ERROR
    assert (lse - want_lse).abs().max() <= checks.LSE_ERROR


def prologue_far(emu: Emulator) -> None:
    """Views of q, k, v in statistics and prologue."""
    q, k, v = checks.inputs("random", (2, 9, 3, 3), 64, BF16)
    norm = Norm(*(torch.ones(9 * 64, dtype=BF16) for _ in "qk"))
    near = [emu.statistics(k, v, norm)]
    near.append(emu.prologue(q, k, v, near[0][0], near[0][1], 0.1, norm))
    q, k, v = far(q), far(k), far(v)
    shift, v_max = emu.statistics(k, v, norm)
    assert torch.equal(shift, near[0][0]) and torch.equal(v_max, near[0][1])
    got = emu.prologue(q, k, v, shift, v_max, 0.1, norm)
    for name in ("q8", "k8", "v16", "q_scale", "k_scale", "lse_shift"):
        assert torch.equal(getattr(got, name), getattr(near[1], name)), name


def prologue_large(emu: Emulator) -> None:
    """Outputs past 2^31 values: the second sample of 2^24 tokens of one head, of which one is computed."""
    tokens, dim = 2**24, 128
    q, k, v = (torch.randn((2, 1, 1, dim), generator=torch.Generator().manual_seed(n)).to(BF16) for n in range(3))
    shift, v_max = emu.statistics(k, v)
    want = emu.prologue(q, k, v, shift, v_max, 0.1)
    values = {name: lazy(torch.int8, (tokens + 1) * dim) for name in ("q8", "k8")} | {
        "v16": lazy(torch.float16, (tokens + 1) * dim)
    }
    rows = {name: lazy(torch.float32, tokens + 1) for name in ("q_scale", "k_scale", "lse_shift")}
    args = abi.PrologueArgs()
    tensors = {"q": q, "k": k, "v": v, "kshift": shift, "v_max": v_max, **values, **rows}
    numbers = {"heads": 1, "all_heads": 1, "sq": tokens, "skv": tokens, "is_bf16": 1}
    fill(args, tensors, ("q", "k", "v"), scale=0.1, **numbers)
    emu.kernel("qkv_prologue_d128", args, (1, 2, 1), 1)
    for sample in (0, 1):
        for name, got in values.items():
            assert torch.equal(got[sample * tokens * dim :][:dim], getattr(want, name)[sample].flatten()), name
        for name, got in rows.items():
            assert got[sample * tokens] == getattr(want, name)[sample].item(), name


def quantized(batch: int, heads: int, sq: int, skv: int, dim: int, spread: float = 0.0) -> Quantized:
    """Random input of the int8 kernel; `spread`: of the key scales' exponents."""
    generator = torch.Generator().manual_seed(11)
    q8, k8 = (
        torch.randint(-127, 128, (batch, n, heads, dim), generator=generator, dtype=torch.int8) for n in (sq, skv)
    )
    v = torch.randn((batch, skv, heads, dim), generator=generator)
    v_max = v.abs().amax((1, 3))
    q_scale = torch.rand((batch, heads, sq), generator=generator) * 0.02 + 0.005
    k_scale = (torch.rand((batch, heads, skv), generator=generator) * 0.02 + 0.005) * torch.exp2(
        spread * torch.rand((batch, heads, skv), generator=generator)
    )
    return Quantized(q8, k8, reference.scale_v(v, v_max), q_scale, k_scale, None, v_max.view(torch.int32))


def long_keys(emu: Emulator, keys: int = 33_000, keys2: int = 0) -> None:
    """Every key's position and scale count: the keys past 32768 are the only ones whose values are not zero."""
    given = quantized(1, 1, 16, keys, 64, 3.0)
    given.v16[:, : keys - 232] = 0
    second = quantized(1, 1, 16, keys2, 64) if keys2 else None
    o, lse = emu.attention_int8(given, 0.02, second)
    parts = [given] + ([second] if second else [])
    k8, v16, k_scale = (
        torch.cat([getattr(p, n) for p in parts], d) for n, d in (("k8", 1), ("v16", 1), ("k_scale", 2))
    )
    v_top = given.v_max.view(torch.float32)
    want, want_lse = reference.attention_int8(given.q8, k8, v16, given.q_scale, k_scale, v_top, 0.02, torch.zeros(1))
    assert checks.relative_error(o, want) <= 6e-3
    assert (lse - want_lse).abs().max() <= 3e-5


def key_scales(emu: Emulator) -> None:
    """More keys than 1024, each with a scale of its own."""
    long_keys(emu, 1300)


def second_key_scales(emu: Emulator) -> None:
    long_keys(emu, 300, 1300)


def rope_of_each_sample(emu: Emulator) -> None:
    """Tables (B, S, D/2): every sample has angles of its own, in statistics and prologue."""
    q, k, v = checks.inputs("random", (2, 2, 5, 5), 64, BF16)
    angle = torch.rand(2, 5, 32, generator=torch.Generator().manual_seed(1)) * 6.3
    norm = Norm(cos=angle.cos(), sin=angle.sin())
    shift, v_max = emu.statistics(k, v, norm)
    assert torch.allclose(
        shift.double(), reference.k_shift(reference.rope(k.double(), norm.cos, norm.sin), 1), atol=1e-5
    )
    got = emu.prologue(q, k, v, shift, v_max, 0.1, norm)
    want = reference.prologue(
        q, k, v, 0.1, shift, v_max.view(torch.float32), NormRope(None, None, norm.cos, norm.sin, 1e-6)
    )
    assert torch.allclose(got.q_scale.double(), want.q_scale, rtol=1e-4) and (got.q8.int() - want.q8).abs().max() <= 1
    assert torch.allclose(got.k_scale.double(), want.k_scale, rtol=1e-4) and (got.k8.int() - want.k8).abs().max() <= 1


def norm_values(emu: Emulator, size: float, eps: float) -> None:
    """Scales of q and k, and the shift, after a norm of values of this size."""
    q, k, v = (x.float() for x in checks.inputs("random", (2, 9, 4, 4), 64, BF16))
    q, k, v = (q * size).to(BF16), (k * size).to(BF16), v.to(BF16)
    weight = (1 + 0.2 * torch.randn(9 * 64, generator=torch.Generator().manual_seed(2))).to(BF16)
    norm = Norm(weight, weight.flip(0), eps=eps)
    shift, v_max = emu.statistics(k, v, norm)
    want_shift = reference.k_shift(reference.rms_norm(k.double(), norm.wk, eps), 1)
    assert torch.allclose(shift.double(), want_shift, rtol=1e-4, atol=1e-5)
    got = emu.prologue(q, k, v, shift, v_max, 0.1, norm)
    want = reference.prologue(
        q, k, v, 0.1, shift, v_max.view(torch.float32), NormRope(norm.wq, norm.wk, None, None, eps)
    )
    assert torch.allclose(got.q_scale.double(), want.q_scale, rtol=1e-4)
    assert torch.allclose(got.k_scale.double(), want.k_scale, rtol=1e-4)


def eps(emu: Emulator) -> None:
    norm_values(emu, 1.0, 0.7)


def norm_overflow(emu: Emulator) -> None:
    norm_values(emu, 1e24, 1e-6)


LIFTED = 0.6926274  # exp(-LIFTED) is 0.50026: fp16 rounds such a probability up by more than it can exceed its largest


def fp16_clamp(emu: Emulator) -> None:
    """A mean of largest values whose probabilities were rounded up stays the largest value, not infinity."""
    top = torch.finfo(torch.float16).max
    q, k = torch.zeros(1, 1, 1, 128).half(), torch.zeros(1, 64, 1, 128).half()
    q[..., 0], k[:, 1:, :, 0] = 1, -1
    o, _ = emu.attention(q, k, torch.full_like(k, top), LIFTED)
    assert (o == top).all()


def fp16_clamp_int8(emu: Emulator) -> None:
    """The same; how many keys lift the fp16 sum enough depends on its own rounding, so all that fit a tile."""
    top = torch.finfo(torch.float16).max
    v_max = torch.tensor([[top]])
    for keys in range(2, 65):
        q8, k8 = torch.zeros(1, 1, 1, 64, dtype=torch.int8), torch.zeros(1, keys, 1, 64, dtype=torch.int8)
        q8[..., 0], k8[:, 1:, :, 0] = 127, -127
        v16 = reference.scale_v(torch.full((1, keys, 1, 64), top), v_max)
        scales = torch.full((1, 1, 1), 1 / 127), torch.full((1, 1, keys), 1 / 127)
        given = Quantized(q8, k8, v16, *scales, None, v_max.view(torch.int32))
        o, _ = emu.attention_int8(given, LIFTED, None, torch.float16)
        assert torch.isfinite(o).all(), keys


def head_group(emu: Emulator) -> None:
    """A launch for some of the heads writes what a launch for all does."""
    q, k, v = checks.inputs("random", (2, 5, 7, 7), 64, BF16)
    angle = torch.rand(7, 32, generator=torch.Generator().manual_seed(1)) * 6.3
    weights = [(1 + 0.2 * torch.randn(5 * 64, generator=torch.Generator().manual_seed(n))).to(BF16) for n in (2, 3)]
    norm = Norm(*weights, angle.cos(), angle.sin())
    shift, v_max = emu.statistics(k, v, norm)
    shift2 = shift.flip(1) * 3
    whole = emu.prologue(q, k, v, shift, v_max, 0.1, norm, shift2)
    part = emu.prologue(q, k, v, shift, v_max, 0.1, norm, shift2, (2, 2))
    for name in ("q8", "k8", "v16"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[:, :, 2:4]), name
    for name in ("q_scale", "k_scale", "lse_shift", "lse_shift2"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[:, 2:4]), name


def largest_v(emu: Emulator) -> None:
    """Each block meets its largest value at another token; every one of them must count."""
    k = torch.zeros(2, 300, 3, 64, dtype=BF16)
    v = torch.randn((2, 300, 3, 64), generator=torch.Generator().manual_seed(8)).to(BF16)
    _, v_max = emu.statistics(k, v)
    assert torch.equal(v_max.view(torch.float32), v.float().abs().amax((1, 3)))
