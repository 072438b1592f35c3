"""Fragment layouts of the emulator against a second source: NVIDIA's own tables in CUTLASS.

emu_warp.h was written from the PTX manual's figures. CuTe states the same facts as (thread, value) -> coordinate maps
(include/cute/atom/mma_traits_sm80.hpp and copy_traits_sm75.hpp): the shapes and strides below are those numbers. For an
operand of R rows the coordinate is row + R * k (A: R = 16; B, by column: R = 8; C: R = 16); for ldmatrix it is a bit.
"""

from __future__ import annotations

import ctypes
from itertools import product

import pytest
import torch
from emulator import Emulator, Finding
from torch import Tensor

# (thread shape, thread strides), (value shape, value strides); the first mode varies fastest.
Layout = tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, ...], tuple[int, ...]]]
A16: Layout = (((4, 8), (32, 1)), ((2, 2, 2), (16, 8, 128)))
B16: Layout = (((4, 8), (16, 1)), ((2, 2), (8, 64)))
A8: Layout = (((4, 8), (64, 1)), ((4, 2, 2), (16, 8, 256)))
B8: Layout = (((4, 8), (32, 1)), ((4, 2), (8, 128)))
C: Layout = (((4, 8), (32, 1)), ((2, 2), (16, 8)))
LDMATRIX: Layout = (((32,), (32,)), ((32, 4), (1, 1024)))
LDMATRIX_TRANS: Layout = (((4, 8), (256, 16)), ((16, 2, 4), (1, 128, 1024)))


class ProbeArgs(ctypes.Structure):
    _fields_ = (("input", ctypes.c_void_p), ("output", ctypes.c_void_p), ("kind", ctypes.c_int32))


def coordinates(layout: Layout) -> list[list[int]]:
    """[thread][value] -> linear coordinate."""
    flat = []
    for shape, stride in layout:
        digits = [reversed(d) for d in product(*(range(n) for n in reversed(shape)))]
        flat.append([sum(i * s for i, s in zip(d, stride, strict=True)) for d in digits])
    return [[t + v for v in flat[1]] for t in flat[0]]


def registers(matrix: Tensor, layout: Layout) -> Tensor:
    """int32 [32, registers]: `matrix` (rows, k) dealt out to the lanes."""
    column_major = matrix.T.contiguous().flatten()
    values = column_major[torch.tensor(coordinates(layout))].contiguous()
    return values.view(torch.int32).view(32, -1)


@pytest.mark.parametrize("kind", ["bf16", "f16", "f16_f16", "s8"])
def test_mma(emu: Emulator, kind: str) -> None:
    generator = torch.Generator().manual_seed(2)
    dtype = {"bf16": torch.bfloat16, "s8": torch.int8}.get(kind, torch.float16)
    depth = 32 if kind == "s8" else 16
    # Small integers: every format and order of addition gives the same sums.
    a = torch.randint(-8, 8, (16, depth), generator=generator)
    b = torch.randint(-8, 8, (8, depth), generator=generator)
    c = torch.randint(-8, 8, (16, 8), generator=generator)
    accumulator = {"s8": torch.int32, "f16_f16": torch.float16}.get(kind, torch.float32)
    packed = torch.zeros(32, 10, dtype=torch.int32)
    packed[:, :4] = registers(a.to(dtype), A8 if kind == "s8" else A16)
    packed[:, 4:6] = registers(b.to(dtype), B8 if kind == "s8" else B16)
    sums = registers(c.to(accumulator), C)
    packed[:, 6 : 6 + sums.shape[1]] = sums
    out = torch.zeros(32, 4, dtype=torch.int32)
    args = ProbeArgs(packed.data_ptr(), out.data_ptr(), ["bf16", "f16", "f16_f16", "s8"].index(kind))
    emu.launch("probe_mma", args, (1, 1, 1), 0, threads=32)
    assert torch.equal(out[:, : sums.shape[1]], registers((a @ b.T + c).to(accumulator), C))


@pytest.mark.parametrize("transposed", [False, True])
def test_ldmatrix(emu: Emulator, transposed: bool) -> None:
    data = torch.randint(0, 2**15, (512,), dtype=torch.int16, generator=torch.Generator().manual_seed(4))
    rows = torch.randperm(8, generator=torch.Generator().manual_seed(5)) * 16
    address = (torch.arange(4)[:, None] * 128 + rows[None]).flatten().to(torch.int32)
    memory = torch.cat((data, address.view(torch.int16)))
    out = torch.zeros(32, 4, dtype=torch.int32)
    args = ProbeArgs(memory.data_ptr(), out.data_ptr(), int(transposed))
    emu.launch("probe_ldmatrix", args, (1, 1, 1), 1024, threads=32)
    # CuTe's bit coordinate is thread * 128 + bit of the row that this thread addresses.
    source = torch.cat([data[int(a) // 2 : int(a) // 2 + 8] for a in address])
    for lane, bits in enumerate(coordinates(LDMATRIX_TRANS if transposed else LDMATRIX)):
        want = source[torch.tensor(bits[::16]) // 16]
        assert torch.equal(out[lane].contiguous().view(torch.int16), want)


@pytest.mark.parametrize(
    ("kind", "finding"),
    [
        (0, None),
        (1, "race: read of shared byte"),
        (2, "race: two threads write the same global memory"),
        (3, "race: a thread"),
        (4, "race: two threads write the same global memory"),
        (5, "race: two threads write the same global memory"),
    ],
)
def test_races_stop_a_kernel(emu: Emulator, kind: int, finding: str | None) -> None:
    """Between lanes of a warp, warps of a block and blocks of a grid, whatever order they run in."""
    for emu.seed in (1, 2, 3):
        out = torch.zeros(256, dtype=torch.int32)
        args = ProbeArgs(0, out.data_ptr(), kind)
        if finding is None:
            emu.launch("probe_races", args, (2, 1, 1), 256, threads=64)
        else:
            with pytest.raises(Finding, match=finding):
                emu.launch("probe_races", args, (2, 1, 1), 256, threads=64)
    emu.seed = 1
