"""The int8 path on the emulator: statistics, prologue and attention against float64, integers bit for bit."""

from __future__ import annotations

import checks
import pytest
import torch
from emulator import Emulator, Norm

from instructx_core.kernels import abi, reference

BF16, F16 = torch.bfloat16, torch.float16


@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("shape", [(1, 1, 128, 128), (2, 2, 130, 65), (1, 1, 1, 1), (1, 1, 3, 200)])
def test_integer_scores_bit_for_bit(emu: Emulator, shape: checks.Shape, dim: int) -> None:
    checks.integer_scores(emu, shape, dim)


@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("shape", [(1, 2, 128, 128), (1, 2, 140, 333), (2, 1, 17, 65), (1, 1, 1, 1)])
def test_whole_path(emu: Emulator, shape: checks.Shape, dim: int) -> None:
    checks.int8(emu, "random", shape, dim)


@pytest.mark.parametrize("kind", checks.KINDS)
def test_inputs_that_break_quantizers(emu: Emulator, kind: str) -> None:
    checks.int8(emu, kind, (1, 2, 60, 400), 128)


def test_offset_costs_no_accuracy(emu: Emulator) -> None:
    plain = checks.int8(emu, "random", (1, 1, 64, 256), 128)
    q, k, v = checks.inputs("random", (1, 1, 64, 256), 128, BF16)
    k = k.float()
    k[..., ::5] += 100.0  # in float16, which holds 100 + the spread better than bfloat16
    o, _ = emu.int8(q.half(), k.half(), v.half(), 128**-0.5)
    want, _ = reference.attention(q, k.half(), v, 128**-0.5)
    assert checks.relative_error(o, want) <= 1.5 * plain


@pytest.mark.parametrize("dim", [64, 128])
def test_attention_alone(emu: Emulator, dim: int) -> None:
    checks.int8_kernel(emu, (2, 2, 40, 100), dim, 70)


def test_two_segments(emu: Emulator) -> None:
    checks.int8(emu, "wan", (2, 2, 33, 130), 128, skv2=70)


def test_float16_inputs(emu: Emulator) -> None:
    checks.int8(emu, "random", (1, 2, 50, 100), 128, dtype=F16)


@pytest.mark.parametrize("dtype", [BF16, F16])
@pytest.mark.parametrize("normed", [False, True])
def test_largest_values_stay_finite(emu: Emulator, dtype: torch.dtype, normed: bool) -> None:
    top = torch.finfo(dtype).max
    q, k, v = (x.sign() * top for x in checks.inputs("random", (1, 2, 20, 80), 128, dtype))
    weight = torch.ones(256, dtype=dtype)
    angle = torch.rand(80, 64)
    norm = Norm(weight, weight, angle.cos(), angle.sin()) if normed else Norm()
    o, lse = emu.int8(q, k, v, 128**-0.5, norm)
    assert torch.isfinite(o).all() and torch.isfinite(lse).all()
    same, _ = emu.int8(q * 0, k, torch.full_like(v, top), 1.0, norm)
    assert (same == top).all()


def test_zeros(emu: Emulator) -> None:
    zero = torch.zeros(1, 40, 1, 64, dtype=BF16)
    o, lse = emu.int8(zero, zero, zero, 0.125)
    assert (o == 0).all() and torch.allclose(lse, torch.full_like(lse, 40.0).log())


@pytest.mark.parametrize("which", range(3))
def test_broken_input_shows(emu: Emulator, which: int) -> None:
    for value in (float("nan"), float("inf")):
        tensors = [x.contiguous() for x in checks.inputs("random", (1, 1, 20, 70), 64, BF16)]
        tensors[which][0, 7, 0, 5] = value
        o, _ = emu.int8(*tensors, 0.125)
        assert not torch.isfinite(o).all()


@pytest.mark.parametrize(("dim", "heads", "dtype"), [(128, 3, BF16), (64, 9, BF16), (128, 12, F16), (64, 1, F16)])
@pytest.mark.parametrize(("normed", "roped"), [(True, True), (False, False), (True, False), (False, True)])
def test_prologue(emu: Emulator, dim: int, heads: int, dtype: torch.dtype, normed: bool, roped: bool) -> None:
    checks.prologue(emu, dim, heads, 9, dtype, normed, roped)


def test_prologue_of_parts(emu: Emulator) -> None:
    """q alone, k alone, v alone and different lengths give the same as together."""
    q, k, v = checks.inputs("random", (1, 2, 5, 11), 64, BF16)
    kshift, v_max = emu.statistics(k, v)
    whole = emu.prologue(q, k, v, kshift, v_max, 1.0)
    assert torch.equal(emu.prologue(q, None, None, kshift, v_max, 1.0).q8, whole.q8)
    assert torch.equal(emu.prologue(None, k, None, kshift, v_max, 1.0).k8, whole.k8)
    assert torch.equal(emu.prologue(None, None, v, kshift, v_max, 1.0).v16, whole.v16)


def test_statistics_of_many_tokens(emu: Emulator) -> None:
    """More tokens than samples: the shift is the mean of every third key, the maximum sees every value."""
    generator = torch.Generator().manual_seed(5)
    k, v = (torch.randn((1, 2050, 1, 64), generator=generator).to(BF16) for _ in range(2))
    v[0, 2049, 0, 63] = -77.0
    kshift, v_max = emu.statistics(k, v)
    assert abi.stats_plan(2050)[:2] == (3, 684)
    assert torch.allclose(kshift.double(), reference.k_shift(k.double(), 3), atol=1e-6)
    assert v_max.view(torch.float32).item() == 77.0


def test_rotation_is_orthonormal_and_signed() -> None:
    for dim in abi.HEAD_DIMS:
        matrix = reference.hadamard_matrix(dim)
        assert torch.allclose(matrix @ matrix.T, torch.eye(dim, dtype=torch.float64), atol=1e-12)
        assert 0.25 * dim < int((matrix[:, 0] < 0).sum()) < 0.75 * dim
