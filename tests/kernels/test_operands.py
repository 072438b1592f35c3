"""What a kernel is given: any offset, stride and sign of an operand, what does not belong together; and memory.

On a card one misaligned address ends the CUDA context of the whole process, so every operand of every op is tried.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from instructx_core.kernels import abi, exact, int8, operands, reference, selftest
from instructx_core.kernels.errors import KernelError, Refusal
from instructx_core.kernels.operands import Inputs, NormRope

BF16 = torch.bfloat16
pytestmark = pytest.mark.usefixtures("emulated")


def shaken(tensor: Tensor, chance: random.Random) -> Tensor:
    """The same values somewhere else: in another order of dimensions, apart, and off every boundary but their own."""
    order = list(range(tensor.ndim))
    if chance.random() < 0.7:
        chance.shuffle(order)
    gaps = [chance.choice((0, 0, 1, 8)) for _ in order]
    shape = [tensor.shape[axis] + gap for axis, gap in zip(order, gaps, strict=True)]
    count, offset = 1, chance.choice((0, 1, 2, 3, 5, 8))
    for n in shape:
        count *= n
    room = torch.full((count + offset,), 9, dtype=tensor.dtype)[offset:].view(shape)
    view = room[tuple(slice(0, tensor.shape[axis]) for axis in order)].permute(
        [order.index(i) for i in range(len(order))]
    )
    return view.copy_(tensor)


def arguments(dtype: torch.dtype = BF16, dim: int = 64) -> dict[str, dict[str, Any]]:
    """Of every op: its operands, plain. Batch 2, two segments, norm and RoPE tables with a batch."""
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int, of: torch.dtype = dtype) -> Tensor:
        return torch.randn(shape, generator=generator).to(of)

    q, k, v = (normal(2, 13, 2, dim) for _ in "qkv")
    k2, v2 = normal(2, 5, 2, dim), normal(2, 5, 2, dim)
    angle = normal(2, 13, dim // 2, of=torch.float32)
    norm = {"norm_k": normal(2 * dim) + 1, "cos": angle.cos(), "sin": angle.sin()}
    shift, v_max, shift2 = int8.kv_stats(k, v, **norm, extra_k=k2, extra_v=v2)
    pro = {"q": q, "k": k, "v": v, "k_shift": shift, "v_max": v_max, "scale": 0.2, "extra_k_shift": shift2}
    pro |= {"norm_q": normal(2 * dim) + 1, **norm}
    q8, k8, v16, q_scale, k_scale, lse, lse2 = int8.qkv_prologue(**pro)
    _, k8_2, v16_2, _, k_scale_2, *_ = int8.qkv_prologue(None, k2, v2, shift2, v_max, 0.2)
    eight = {"q8": q8, "k8": k8, "v16": v16, "q_scale": q_scale, "k_scale": k_scale, "v_max": v_max, "scale": 0.2}
    eight |= {"bfloat16": dtype == BF16, "lse_shift": lse, "extra_k8": k8_2, "extra_v16": v16_2}
    eight |= {"extra_k_scale": k_scale_2, "extra_lse_shift": lse2}
    plain = {"q": q, "k": k, "v": v, "scale": 0.2, "extra_k": k2, "extra_v": v2}
    return {
        "attention": plain | {"key_bias": normal(2, 2, 18, of=torch.float32)},
        "attention_quantizing": plain,
        "kv_stats": {"k": k, "v": v, "extra_k": k2, "extra_v": v2, **norm},
        "qkv_prologue": pro,
        "attention_int8": eight,
    }


OPS = {"attention": exact.attention} | {
    name: getattr(int8, name) for name in ("attention_quantizing", "kv_stats", "qkv_prologue", "attention_int8")
}


@pytest.mark.parametrize("name", OPS)
def test_offsets_and_strides_of_every_operand(name: str) -> None:
    """Ten layouts of all operands at once: the emulator stops at a misaligned address, and no bit may change."""
    for dtype, dim in ((BF16, 64), (torch.float16, 128)):
        given, chance = arguments(dtype, dim)[name], random.Random(7)
        want = OPS[name](**given)
        for _ in range(5):
            moved = {key: shaken(x, chance) if isinstance(x, Tensor) else x for key, x in given.items()}
            assert all(torch.equal(a, b) for a, b in zip(OPS[name](**moved), want, strict=True))


def test_a_contiguous_view_off_its_boundary_is_copied() -> None:
    room = torch.zeros(1 + 70 * 64, dtype=BF16)
    view = room[1:].view(1, 70, 1, 64)
    assert view.is_contiguous() and view.data_ptr() % abi.ROW_ALIGNMENT
    assert operands.align(view).data_ptr() % abi.ROW_ALIGNMENT == 0


@pytest.mark.parametrize(
    ("name", "key", "change"),
    [
        ("attention", "v", lambda x: x[:, :-1]),
        ("attention", "k", lambda x: x[:1]),
        ("attention", "extra_v", lambda x: x[:, :1]),
        ("attention", "extra_v", lambda x: None),
        ("attention", "key_bias", lambda x: x[:, :, 1:]),
        ("attention_quantizing", "v", lambda x: x[:, :-1]),
        ("kv_stats", "norm_k", lambda x: x[1:]),
        ("kv_stats", "norm_k", Tensor.float),
        ("kv_stats", "cos", lambda x: x[:, :-1]),
        ("kv_stats", "sin", lambda x: None),
        ("qkv_prologue", "norm_q", lambda x: x[:64]),
        ("qkv_prologue", "cos", lambda x: x[..., :-1]),
        ("qkv_prologue", "k_shift", lambda x: x[:1]),
        ("qkv_prologue", "v_max", Tensor.float),
        ("attention_int8", "k_scale", lambda x: x[..., 1:]),
        ("attention_int8", "lse_shift", lambda x: x[..., 1:]),
        ("attention_int8", "extra_k_scale", lambda x: x[..., 1:]),
        ("attention_int8", "v16", Tensor.bfloat16),
        ("attention_int8", "k8", lambda x: x[:, 1:]),
        ("attention_int8", "v_max", lambda x: x[:1]),
    ],
)
def test_what_would_be_read_past_its_end_is_refused(name: str, key: str, change: Any) -> None:
    given = arguments()[name]
    with pytest.raises(Refusal):
        OPS[name](**given | {key: change(given[key])})


@pytest.mark.parametrize("path", ["exact", "int8"])
@pytest.mark.parametrize("scale", [-0.125, 0.0, -3.0])
def test_any_sign_of_the_scale(path: str, scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v, k2, v2 = (torch.randn((2, n, 2, 64), generator=generator).to(BF16) for n in (40, 90, 90, 30, 30))
    k2 = k2 + 2  # a shift of its own, which the LSE must give back with the same sign
    op = exact.attention if path == "exact" else int8.attention_quantizing
    out, lse = op(q, k, v, scale, None, k2, v2)
    want, want_lse = reference.attention(q, k, v, scale, None, k2, v2)
    limit = 3e-3 if path == "exact" else 1.5e-2 * max(1.0, abs(scale) * 4)
    assert selftest.relative_error(out, want) <= limit
    assert selftest.lse_error(lse, want_lse) <= (1e-5 if path == "exact" else 0.02)


def test_a_negative_scale_of_the_quantised_op_alone() -> None:
    given = arguments()["attention_int8"]
    positive = int8.attention_int8(**given | {"q8": -given["q8"]})
    negative = int8.attention_int8(**given | {"scale": -given["scale"]})
    assert all(torch.equal(a, b) for a, b in zip(positive, negative, strict=True))


def test_a_negative_scale_of_the_largest_values() -> None:
    top = torch.finfo(BF16).max
    q, k, v = (torch.randn(1, 40, 1, 64).sign().to(BF16) * top for _ in "qkv")
    assert torch.isfinite(exact.attention(q, k, v, -0.125)[0]).all()


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_scale_that_is_no_number_is_refused(scale: float) -> None:
    q = torch.zeros(1, 4, 1, 64, dtype=BF16)
    for op in (exact.attention, int8.attention_quantizing):
        with pytest.raises(KernelError, match="scale of"):
            op(q, q, q, scale)


# --- memory of the int8 path ---------------------------------------------------------------------------------------


def most_at_once(given: Inputs, pending: NormRope) -> tuple[tuple[Tensor, Tensor], int]:
    """Result of the int8 path, and the most bytes that it held at one time beside it."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        out = int8.quantized_attention(given, pending)
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = top = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        top = max(top, now)
    return out, top - sum(part.nbytes for part in out)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("heads", [5, 6])
def test_some_heads_at_a_time_give_the_same_bits_in_less_memory(
    monkeypatch: pytest.MonkeyPatch, batch: int, heads: int
) -> None:
    generator = torch.Generator().manual_seed(1)
    q, k, v, k2, v2 = (torch.randn((batch, n, heads, 64), generator=generator).to(BF16) for n in (150, 150, 150, 9, 9))
    norm = [torch.rand(heads * 64, generator=generator).to(BF16) + 0.5 for _ in "qk"]
    angle = torch.rand(150, 32, generator=generator) * 6
    pending = NormRope(*norm, angle.cos(), angle.sin(), 1e-6)
    given = Inputs.of(q, k, v, extra_k=k2, extra_v=v2)
    want, whole = most_at_once(given, pending)
    monkeypatch.setattr(abi, "SCRATCH_BYTES", 2 * batch * (150 + 3 * 159) * 64)
    assert len(abi.head_groups(batch * 150, batch * 159, heads, 64)) == 3
    got, parts = most_at_once(given, pending)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    assert 0 < parts < 0.6 * whole, (parts, whole)


def test_groups_cover_every_head_once_within_the_limit() -> None:
    for tokens, heads, dim in ((75600, 40, 128), (171360, 40, 128), (32760, 12, 128), (900_000, 40, 128), (10, 1, 64)):
        groups = abi.head_groups(tokens, tokens, heads, dim)
        assert [h for first, count in groups for h in range(first, first + count)] == list(range(heads))
        most = max(count for _, count in groups)
        assert most == 1 or most * 4 * tokens * dim <= abi.SCRATCH_BYTES
    assert len(abi.head_groups(75600, 75600, 40, 128)) == 4  # 720p of the 14B model: 0.4 GB instead of 1.5
