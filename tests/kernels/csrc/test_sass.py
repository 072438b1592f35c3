"""The PTX half of ptx.cuh, which no CPU runs: what NVRTC makes of each wrapper, from its operands to its results.

The probes of sass_probes.cu load word i of `in`, run one instruction and store to word i of `out`; the machine code is
read back into formulas. Then the same with one bug in ptx.cuh at a time. Needs nvdisasm, which comes with Triton.
"""

from __future__ import annotations

import re
from pathlib import Path

import kernel_table
import pytest
from emulator import CSRC

from instructx_core.kernels import abi, loader

PROBES = Path(__file__).parent / "sass_probes.cu"
A, B = "in0 in1 in2 in3", "in4 in5"
FOUR, TWO = "in6 in7 in8 in9", "in6 in7"


def product(name: str, sums: str, words: int) -> dict[int, str]:
    return {i: f"{name}({A} | {B} | {sums})[{i}]" for i in range(words)}


WANT = {
    "sass_mma_bf16": product("HMMA.16816.F32.BF16", FOUR, 4),
    "sass_mma_f16": product("HMMA.16816.F32", FOUR, 4),
    "sass_mma_f16_f16": product("HMMA.16816.F16", TWO, 2),
    "sass_mma_s8": product("IMMA.16832.S8.S8", FOUR, 4),
    "sass_load_matrix": {i: f"LDSM.16.M88.4([in0])[{i}]" for i in range(4)},
    "sass_load_matrix_trans": {i: f"LDSM.16.MT88.4([in0])[{i}]" for i in range(4)},
    "sass_numbers": {
        0: "F2FP.F16.F32.PACK_AB(in1, in0)",
        1: "F2FP.BF16.F32.PACK_AB(in1, in0)",
        2: "HADD2.F32(-RZ, in2.H0_H0)",
        3: "HADD2.F32(-RZ, in2.H1_H1)",
        4: "MUFU.EX2(in3)",
        5: "FMNMX.NAN(in4, in5, !PT)",
        6: "FMNMX.NAN(in4, in5, PT)",
        7: "F2I.NTZ(in6)",
        8: "LDS.64([in7])[0]",
        9: "LDS.64([in7])[1]",
    },
}
ORDER = [
    "LDGSTS.E.BYPASS.128",
    "LDGDEPBAR",
    "DEPBAR.LE SB0, 0x1",
    "BAR.SYNC.DEFER_BLOCKING 0x0",
    "LDGSTS.E",
    "LDGDEPBAR",
    "DEPBAR.LE SB0, 0x0",
    "STS",
    "RED.E.MAX.STRONG.GPU",
    "SHFL.BFLY 0x2, 0x1f",
]


def machine_code(header: str) -> dict[str, list[tuple[str, list[str]]]]:
    """Kernel -> (instruction, operands) for sm_89, with this text as ptx.cuh."""
    tool, compiler = kernel_table.disassembler(), kernel_table.nvrtc()
    if tool is None or compiler is None:
        pytest.skip("no nvdisasm (it comes with Triton) or no NVRTC (a CPU build of torch)")
    headers = loader.headers() | {"ptx.cuh": header}
    cubin = compiler.compile(PROBES.name, PROBES.read_text(), headers, abi.COMPILE_OPTIONS, "sm_89")
    return {name: [parsed(line) for line in lines] for name, lines in kernel_table.listing(cubin, tool)}


def parsed(line: str) -> tuple[str, list[str]]:
    name, _, rest = line.partition(" ")
    return name, [part.strip().replace(".reuse", "") for part in rest.split(",")] if rest else []


def formulas(code: list[tuple[str, list[str]]]) -> dict[int, str]:
    """What each stored word is, in terms of loaded ones."""
    value: dict[str, str] = {}
    out: dict[int, str] = {}

    def run(first: str, count: int) -> str:
        base = first.split(".")[0]
        return " ".join(known(f"R{int(base[1:]) + i}") for i in range(count))

    def known(text: str) -> str:
        return re.sub(r"\bR\d+", lambda found: value.get(found[0], found[0]), text)

    for name, operands in code:
        if name.startswith("LDG.E"):
            value[operands[0]] = f"in{word(operands[1])}"
        elif name.startswith("STG.E"):
            out[word(operands[0])] = value.get(operands[1], operands[1])
        elif name.startswith(("HMMA", "IMMA")):
            words = 2 if name.endswith(".F16") else 4
            made = f"{name}({run(operands[1], 4)} | {run(operands[2], 2)} | {run(operands[3], words)})"
            value |= {f"R{int(operands[0][1:]) + i}": f"{made}[{i}]" for i in range(words)}
        elif name.startswith(("LDSM", "LDS.64")):
            made = f"{name}({known(operands[1])})"
            value |= {
                f"R{int(operands[0][1:]) + i}": f"{made}[{i}]" for i in range(4 if name.startswith("LDSM") else 2)
            }
        elif operands and re.fullmatch(r"R\d+", operands[0]):
            value[operands[0]] = f"{name}({', '.join(map(known, operands[1:]))})"
    return out


def word(address: str) -> int:
    found = re.search(r"\+0x([0-9a-f]+)\]", address)
    return int(found[1], 16) // 4 if found else 0


def effects(code: list[tuple[str, list[str]]]) -> list[str]:
    """In their order; the shuffles last, since the compiler may move what touches no memory."""
    found, shuffles = [], []
    for name, operands in code:
        if name.startswith(("DEPBAR", "BAR.SYNC")):
            found.append(f"{name} {', '.join(operands)}")
        elif name.startswith("SHFL"):
            shuffles.append(f"{name} {', '.join(operands[-2:])}")
        elif name.startswith(("LDGSTS", "LDGDEPBAR", "STS", "RED")):
            found.append(name.removesuffix(".ZFILL"))
    return found + shuffles


def wrong(header: str) -> list[str]:
    """Probes that are not what they should be."""
    code = machine_code(header)
    bad = [name for name, want in WANT.items() if formulas(code[name]) != want]
    return bad + (["sass_order"] if effects(code["sass_order"]) != ORDER else [])


def test_every_wrapper_is_its_instruction() -> None:
    code = machine_code((CSRC / "ptx.cuh").read_text())
    for name, want in WANT.items():
        assert formulas(code[name]) == want, name
    assert effects(code["sass_order"]) == ORDER


PAIR = 'x2.f32 %0, %1, %2;" : "=r"(r) : '
SWAPPED = f'{PAIR}"f"(low), "f"(high)'
PAIR += '"f"(high), "f"(low)'
S8 = "s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}"
BUGS = {
    "K fragment's halves swapped in s8": (f"{S8}, {{%8, %9}}", f"{S8}, {{%9, %8}}"),
    "Q registers in another order in s8": (S8, S8.replace("%5, %6", "%6, %5")),
    "bf16 as f16": ("f32.bf16.bf16.f32", "f32.f16.f16.f32"),
    "sums of f16 in the wrong rows": ("f16.f16.f16.f16 {%0, %1},", "f16.f16.f16.f16 {%1, %0},"),
    "u8 queries": ("s32.s8.s8.s32", "s32.u8.s8.s32"),
    "V not transposed": ("x4.trans.shared.b16", "x4.shared.b16"),
    "rows of ldmatrix out of order": ("x4.shared.b16 {%0, %1, %2, %3}", "x4.shared.b16 {%0, %2, %1, %3}"),
    "fp16 pair swapped": (f"cvt.rn.f16{PAIR}", f"cvt.rn.f16{SWAPPED}"),
    "bf16 pair swapped": (f"cvt.rn.bf16{PAIR}", f"cvt.rn.bf16{SWAPPED}"),
    "fp16 pair unpacked the other way": ("mov.b32 {x, y}, %2", "mov.b32 {y, x}, %2"),
    "maximum drops NaN": ("max.NaN.f32", "max.f32"),
    "minimum is a maximum": ("min.NaN.f32", "max.NaN.f32"),
    "log2 for exp2": ("ex2.approx.ftz.f32", "lg2.approx.ftz.f32"),
    "rounds towards zero": ("__float2int_rn(x)", "__float2int_rz(x)"),
    "waits for all but one": ("cp.async.wait_group %0;", "cp.async.wait_group 1;"),
    "barrier of another number": ("bar.sync 0;", "bar.sync 1;"),
    "16 bytes through L1": ("cp.async.cg.shared.global", "cp.async.ca.shared.global"),
    "never committed": ('asm volatile("cp.async.commit_group;" ::: "memory");', ""),
    "shuffle of the lane above": ("__shfl_xor_sync(", "__shfl_down_sync("),
    "pair of floats swapped": ("ld.shared.v2.f32 {%0, %1}", "ld.shared.v2.f32 {%1, %0}"),
    "largest V without an atomic": ("atomicMax(address, value);", "if (value > *address) *address = value;"),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_in_a_wrapper_is_noticed(name: str) -> None:
    old, new = BUGS[name]
    text = (CSRC / "ptx.cuh").read_text()
    assert text.count(old) == 1, "the source has changed, adapt the bug"
    assert wrong(text.replace(old, new)), f"nothing noticed: {name}"
