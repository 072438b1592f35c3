"""The exact kernel on the emulator against float64: shapes with tails, both head dims, views, bias, two segments."""

from __future__ import annotations

import checks
import pytest
import torch
from emulator import Emulator

from instructx_core.kernels import abi, reference

BF16, F16 = torch.bfloat16, torch.float16
SHAPES = [(1, 1, 128, 128), (1, 2, 200, 333), (2, 1, 257, 65), (1, 1, 1, 1), (1, 1, 130, 512), (1, 1, 127, 63)]


@pytest.mark.parametrize(("dim", "dtype"), [(128, BF16), (64, BF16), (128, F16), (64, F16)])
@pytest.mark.parametrize("shape", SHAPES)
def test_matches_float64(emu: Emulator, shape: checks.Shape, dim: int, dtype: torch.dtype) -> None:
    checks.exact(emu, "random", shape, dim, dtype)


@pytest.mark.parametrize("kind", checks.KINDS)
def test_inputs_that_break_kernels(emu: Emulator, kind: str) -> None:
    checks.exact(emu, kind, (1, 1, 70, 333), 128, BF16)


@pytest.mark.parametrize("skv", [63, 64, 65, 127, 128, 129])
def test_tails_of_both_segments(emu: Emulator, skv: int) -> None:
    checks.exact(emu, "random", (1, 2, 17, skv), 64, BF16, skv2=192 - skv)


def test_two_segments_equal_their_concatenation(emu: Emulator) -> None:
    q, k, v = checks.inputs("random", (2, 2, 40, 192), 64, BF16)
    whole = emu.attention(q, k, v, 0.125)
    parts = emu.attention(q, k[:, :64], v[:, :64], 0.125, None, k[:, 64:], v[:, 64:])
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


@pytest.mark.parametrize("heads", [1, 3])
def test_key_bias(emu: Emulator, heads: int) -> None:
    checks.exact(emu, "random", (2, 3, 33, 70), 128, BF16, skv2=5, biased=heads)


def test_row_without_keys(emu: Emulator) -> None:
    q, k, v = checks.inputs("random", (1, 1, 20, 70), 64, BF16)
    o, lse = emu.attention(q, k, v, 0.125, torch.full((1, 1, 70), float("-inf")))
    assert (o == 0).all() and (lse == float("-inf")).all()


@pytest.mark.parametrize("dtype", [BF16, F16])
def test_largest_values_stay_finite(emu: Emulator, dtype: torch.dtype) -> None:
    top = torch.finfo(dtype).max
    q, k, v = (x.sign() * top for x in checks.inputs("random", (1, 1, 40, 100), 128, dtype))
    o, _ = emu.attention(q, k, v, 128**-0.5)
    assert torch.isfinite(o).all()
    same, _ = emu.attention(q * 0, k, torch.full_like(v, top), 1.0)
    assert (same == top).all()


def test_mixed_magnitudes_are_exact(emu: Emulator) -> None:
    """Rows of q spread over bf16's whole range: lowering their exponent must not change the logits."""
    q, k, v = checks.inputs("random", (1, 1, 64, 100), 64, BF16)
    power = torch.arange(-60, 68, 2).float()
    q = (q * torch.exp2(power).bfloat16()[None, :, None, None]).contiguous()
    o, lse = emu.attention(q, k, v, 2.0**-10)
    want, want_lse = reference.attention(q, k, v, 2.0**-10)
    assert checks.relative_error(o, want) <= checks.EXACT_ERROR
    assert ((lse - want_lse).abs() / want_lse.abs().clamp(min=1.0)).max() <= checks.LSE_ERROR


@pytest.mark.parametrize("which", range(3))
def test_broken_input_shows(emu: Emulator, which: int) -> None:
    tensors = [x.contiguous() for x in checks.inputs("random", (1, 1, 20, 70), 64, BF16)]
    tensors[which][0, 7, 0, 5] = float("nan")
    o, _ = emu.attention(*tensors, 0.125)
    assert torch.isnan(o).any()


def test_same_bits_for_every_schedule(emu: Emulator) -> None:
    checks.schedules(emu)


def test_nothing_past_the_end(emu: Emulator) -> None:
    checks.fences(emu)


def test_offsets_past_four_gigabytes(emu: Emulator) -> None:
    checks.far_strides(emu)


def test_abi_matches_sources() -> None:
    """Every kernel of abi.py is defined in the file it names; tile sizes agree."""
    from emulator import CSRC

    for kernel in abi.KERNELS.values():
        args = kernel.args.__name__
        assert f"KERNEL({kernel.name}, {args})" in (CSRC / kernel.source).read_text()
        assert kernel.shared(40) <= abi.MAX_SHARED
    header = (CSRC / "attention.cuh").read_text()
    for text in (f"TILE_Q = {abi.TILE_Q};", f"TILE_K = {abi.TILE_K};", f"THREADS = {abi.THREADS};"):
        assert text in header
