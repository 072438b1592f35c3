"""What NVRTC and nvcc make of the kernels: no spills, registers and shared memory that fit, tensor-core instructions.

The fast test compiles one source for one architecture; the slow ones everything for all five, with torch's NVRTC and,
where a toolkit is installed, with nvcc.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import groupby
from pathlib import Path

import kernel_table
import pytest
from emulator import CSRC, PROBES

from instructx_core.kernels import abi

# Instructions of one tile by prefix: 64 keys x 16 rows, D = 128. Half of each with D = 64.
TENSOR = {
    "attention_bf16_d128": {"HMMA.16816.F32.BF16": 128},
    "attention_f16_d128": {"HMMA.16816.F32": 128},
    "attention_int8_d128": {"HMMA.16816.F16": 64, "IMMA.16832.S8.S8": 32},
}


@pytest.fixture(scope="module")
def compiler() -> kernel_table.LoggingNvrtc:
    found = kernel_table.nvrtc()
    if found is None:
        pytest.skip("this torch brings no NVRTC (a CPU build)")
    return found


def check(results: list[kernel_table.Result], names: set[str]) -> None:
    assert {r.name for r in results} == names
    for r in results:
        kernel = abi.KERNELS[r.name]
        label = f"{r.name} sm_{r.arch}"
        assert r.spilled == 0 and r.stack == 0, f"{label}: {r.spilled} bytes spilled, stack {r.stack}"
        assert 0 < r.registers * abi.THREADS <= 65536, f"{label}: {r.registers} registers"
        assert kernel.shared(40) <= abi.MAX_SHARED
        if not r.whole:
            continue  # no disassembler
        assert not any(name.startswith(("LDL", "STL")) for name in r.whole), f"{label}: local memory"
        if not r.name.startswith("attention"):
            assert kernel_table.tensor(r.whole) == 0
            continue
        # The compiler may put the first pass in front of the loop (sm_120 does); nothing else may multiply.
        passes = kernel_table.tensor(r.whole) / kernel_table.tensor(r.loop)
        assert passes in (1, 2), f"{label}: {passes} times the loop's tensor instructions"
        for prefix, count in TENSOR[r.name.replace("d64", "d128")].items():
            found = sum(n for name, n in r.loop.items() if name.startswith(prefix))
            assert found == count * kernel.head_dim // 128, f"{label}: {found} {prefix} in {r.loop}"
        check_loop(r, kernel.head_dim, label)


def check_loop(r: kernel_table.Result, dim: int, label: str) -> None:
    """What one tile needs beside the tensor cores, by count, and that no copy, wait or barrier has changed places."""
    steps = dim // 32 if "int8" in r.name else dim // 16  # of QK; PV has 4 of 16 keys
    # Each probability once and two rescales; int8 has a second copy of the exponentials for huge logits.
    want = {"LDSM.16.M88.4": 4 * steps, "LDSM.16.MT88.4": dim // 4, "MUFU.EX2": 66 if "int8" in r.name else 34}
    want |= {"BAR.SYNC": 2, "DEPBAR.LE": 2, "LDGDEPBAR": 2}
    assert {name: sum(n for full, n in r.loop.items() if full.startswith(name)) for name in want} == want, label
    marks = [re.match(r"LDSM\.16\.M|LDGSTS|DEPBAR|BAR", name) for name in r.order]
    order = [mark[0] + ("T" if "MT88" in mark.string else "") for mark in marks if mark is not None]
    assert [name for name, _ in groupby(order)] == [
        *("DEPBAR", "BAR", "LDGSTS", "LDSM.16.M"),  # K has arrived: V's copy starts, K is read
        *("DEPBAR", "BAR", "LDGSTS", "LDSM.16.MT"),  # V has arrived: the next K's copy starts, V is read
    ], label


def test_int8_for_one_card(compiler: kernel_table.LoggingNvrtc) -> None:
    cubin, log = compiler.compile_logged("attention_int8.cu", 89)
    results = kernel_table.parse_log(log, 89)
    tool = kernel_table.disassembler()
    if tool is not None:
        kernel_table.read_sass(cubin, results, tool)
    check(list(results.values()), {"attention_int8_d128", "attention_int8_d64"})
    page = (CSRC.parents[2] / "docs" / "kernels.md").read_text(encoding="utf-8")
    *_, first, second = kernel_table.table(list(results.values()), compiler.version).splitlines()
    if tool is not None and f"Compiled by NVRTC {'.'.join(map(str, compiler.version))};" in page:
        assert first in page and second in page, "scripts/kernel_table.py --write"


@pytest.mark.slow
@pytest.mark.parametrize("arch", kernel_table.ARCHITECTURES)
def test_all_with_nvrtc(compiler: kernel_table.LoggingNvrtc, arch: int) -> None:
    if arch == 120 and compiler.version < (12, 8):
        pytest.skip("this NVRTC is older than sm_120")
    check(kernel_table.compile_all(compiler, (arch,)), set(abi.KERNELS))


@pytest.mark.slow
@pytest.mark.parametrize("arch", kernel_table.ARCHITECTURES)
def test_all_with_nvcc(arch: int, tmp_path: Path) -> None:
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no CUDA toolkit")
    results: list[kernel_table.Result] = []
    for source in (*(CSRC / name for name in abi.SOURCES), PROBES):
        command = [nvcc, "-std=c++17", "--cubin", f"-arch=sm_{arch}", f"-I{CSRC}", "-Xptxas", "-v", str(source)]
        done = subprocess.run(
            [*command, "-o", str(tmp_path / "out.cubin")], check=True, capture_output=True, text=True, cwd=tmp_path
        )
        if source != PROBES:
            results += kernel_table.parse_log(done.stderr + done.stdout, arch).values()
    check(results, set(abi.KERNELS))


def test_table() -> None:
    """The table's parser on a log of two kernels, and the marks in a page."""
    log = (
        "ptxas info    : Compiling entry function 'attention_int8_d128' for 'sm_89'\n"
        "    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads\n"
        "ptxas info    : Used 217 registers, used 1 barriers, 616 bytes cmem[0]\n"
    )
    found = kernel_table.parse_log(log, 89)["attention_int8_d128"]
    assert (found.stack, found.spilled, found.registers) == (8, 16, 217)
    assert kernel_table.tensor_clocks("attention_int8_d128", 89) == 1536
    assert kernel_table.tensor_clocks("attention_bf16_d128", 89) == 4096
    assert "| 217 | 16 |" in kernel_table.table([found], (13, 0))
