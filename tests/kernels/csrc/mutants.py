"""Planted bugs: one change of a source each, and the check that must notice it.

They keep the emulator and the tests honest: a mutant that survives is a bug class nobody would see before a GPU does.
`old` occurs exactly once in the file. A crash counts as noticed, a hang does not.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import checks
import torch
from emulator import Emulator

Check = Callable[[Emulator], object]
LOOP, EXACT, INT8, PROLOGUE = "attention.cuh", "attention.cu", "attention_int8.cu", "prologue.cu"


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    old: str
    new: str
    check: Check
    kernel: str = "attention_bf16_d128"  # the only attention kernel that is built
    count: int = 1  # occurrences of `old`


def exact(emu: Emulator) -> None:
    checks.exact(emu, "random", (1, 2, 130, 200), 128, torch.bfloat16, skv2=70)


def bias(emu: Emulator) -> None:
    checks.exact(emu, "random", (2, 2, 17, 70), 128, torch.bfloat16, skv2=5, biased=2)


def exact_d64(emu: Emulator) -> None:
    checks.exact(emu, "random", (1, 1, 40, 100), 64, torch.float16)


def int8_kernel(emu: Emulator) -> None:
    checks.int8_kernel(emu, (1, 2, 130, 100), 128, 70)


def int8_d64(emu: Emulator) -> None:
    checks.int8_kernel(emu, (1, 1, 40, 100), 64, 0)


def prologue(emu: Emulator) -> None:
    checks.prologue(emu, 128, 9, 7, torch.bfloat16, True, True)


def largest(emu: Emulator) -> None:
    top = torch.finfo(torch.bfloat16).max
    q, k, v = (x.sign() * top for x in checks.inputs("random", (1, 1, 40, 100), 128, torch.bfloat16))
    o, _ = emu.attention(q, k, v, 128**-0.5)
    assert torch.isfinite(o).all()


BEFORE_V = "        block_barrier();  // for all threads, and nobody reads V[i-1] any more\n"
BEFORE_K = "        block_barrier();  // for all threads, and nobody reads K[i] any more\n"
WAIT_K = "        copy_wait<0>();   // K[i] has arrived for this thread,\n"
WAIT_V = "        copy_wait<0>();   // V[i] has arrived for this thread,\n"
LOAD_V = "        load_values<Policy>(v_tile, args, at);\n        copy_commit();\n"

MUTANTS = [
    Mutant("barrier before V's copy dropped", LOOP, BEFORE_V, "", exact),
    Mutant("barrier before K's copy dropped", LOOP, BEFORE_K, "", exact),
    Mutant("wait for K lets one group fly", LOOP, WAIT_K, "        copy_wait<1>();\n", exact),
    Mutant("wait for V lets one group fly", LOOP, WAIT_V, "        copy_wait<1>();\n", exact),
    Mutant("V's copy before the barrier", LOOP, BEFORE_V + LOAD_V, LOAD_V + BEFORE_V, exact),
    Mutant(
        "half a block skips a barrier", LOOP, BEFORE_K, "        if (thread_index() < 128) block_barrier();\n", exact
    ),
    Mutant("tail keeps one key too many", LOOP, "(i & 1) >= keys", "(i & 1) > keys", exact),
    Mutant("tail never masked", LOOP, "if (at.limit - at.first < TILE_K) mask_tail", "if (false) mask_tail", exact),
    Mutant("swizzle over 4 rows", LOOP, "row & 7 : (row", "row & 3 : (row", exact),
    Mutant("swizzle of 64-byte rows", LOOP, "(row >> 1) & 3", "row & 3", int8_d64, "attention_int8_d64"),
    Mutant("K fragment halves swapped", LOOP, "q[step], k[0], k[1]);", "q[step], k[1], k[0]);", exact),
    Mutant("Q rows of the wrong lanes", LOOP, "warp * 16 + (lane & 15)", "warp * 16 + (lane >> 1)", exact),
    Mutant("V not transposed", LOOP, "load_matrix_trans(v,", "load_matrix(v,", exact),
    Mutant("row maximum over two of four lanes", LOOP, "        top = maximum(top, shuffle_xor(top, 2));\n", "", exact),
    Mutant("sum over two of four lanes", LOOP, "        sum += shuffle_xor(sum, 2);\n", "", exact),
    Mutant(
        "sum never rescaled", LOOP, "multiply_add(state.sum[r], state.rescale[r], sum)", "state.sum[r] + sum", exact
    ),
    Mutant("probabilities in the wrong quarter", LOOP, "s[2 * step + (i >> 1)]", "s[2 * step + (i & 1)]", exact),
    Mutant(
        "store past the last row", LOOP, "if (row >= args.sq) continue;", "if (row > args.sq) continue;", checks.fences
    ),
    Mutant("copy past the last row", LOOP, "first + row < limit;", "first + row <= limit;", checks.fences),
    Mutant(
        "32-bit row offset",
        LOOP,
        "(inside ? first + row : 0) * stride",
        "(inside ? first + row : 0) * (int)stride",
        checks.far_strides,
    ),
    Mutant("second segment reads the first", LOOP, "(at.second ? args.k2 : args.k)", "args.k", exact),
    Mutant("second segment starts late", LOOP, "(index - tiles) * TILE_K", "(index - tiles + 1) * TILE_K", exact),
    Mutant(
        "heads ignored",
        LOOP,
        "(at.second ? args.v2 : args.v) + b * view.sb + h * view.sh",
        "(at.second ? args.v2 : args.v) + b * view.sb",
        exact,
    ),
    Mutant("LSE in base 2", LOOP, "Policy::OFFSET)) * LN_2;", "Policy::OFFSET));", exact),
    Mutant("output never rescaled", EXACT, "o[n][i] *= state.rescale[i >> 1];", "o[n][i] *= 1.0f;", exact),
    Mutant("bias of the second segment not shifted", EXACT, "(at.second ? args.skv * 4ll : 0)", "0", bias),
    Mutant("bias of the wrong column", EXACT, "s[n][2 + j] += extra;", "s[n][3 - j] += extra;", bias),
    Mutant("exponent of q not lowered", EXACT, "if (shift < 0 || shift > 136) shift = 0;", "shift = 0;", largest),
    Mutant("half the channels of 64", EXACT, "QK_STEPS = D / 16", "QK_STEPS = D / 32", exact_d64, "attention_f16_d64"),
    Mutant(
        "second segment's shift in the wrong base",
        INT8,
        "difference * LOG2_E",
        "difference",
        int8_kernel,
        "attention_int8_d128",
    ),
    Mutant(
        "first shift left on the second segment",
        INT8,
        " - lse_shift(args, at);",
        ";",
        int8_kernel,
        "attention_int8_d128",
    ),
    Mutant(
        "second shift without the row's factor",
        INT8,
        "LOG2_E / factor[r];",
        "LOG2_E;",
        int8_kernel,
        "attention_int8_d128",
    ),
    Mutant("K scale of the neighbour", INT8, "* scale[i & 1];", "* scale[i >> 1];", int8_kernel, "attention_int8_d128"),
    Mutant(
        "Q scale of the other row",
        INT8,
        "row < args.sq ? load<float>(args.q_scale + at)",
        "row < args.sq ? load<float>(args.q_scale + at - at % 2)",
        int8_kernel,
        "attention_int8_d128",
    ),
    Mutant(
        "K scales of the first head",
        INT8,
        "((i64)block_z() * args.heads + block_y()) * at.limit",
        "0",
        int8_kernel,
        "attention_int8_d128",
    ),
    Mutant(
        "V exponent off by one",
        INT8,
        "(exponent == 0 ? 1u : exponent) << 23",
        "(exponent + 1u) << 23",
        int8_kernel,
        "attention_int8_d128",
    ),
    Mutant(
        "fp16 sum not rescaled",
        INT8,
        "multiply_add(out[2 * r], state.rescale[r], x)",
        "out[2 * r] + x",
        int8_kernel,
        "attention_int8_d128",
    ),
    Mutant("norm over one head", PROLOGUE, "total.plain / width + eps", "total.plain / 128 + eps", prologue, ""),
    Mutant(
        "barrier of the norm dropped",
        PROLOGUE,
        "    block_barrier();\n    Squares total",
        "    Squares total",
        prologue,
        "",
    ),
    Mutant(
        "RoPE turns the other way",
        PROLOGUE,
        "even * angles.cos[i / 2] - odd",
        "even * angles.cos[i / 2] + odd",
        prologue,
        "",
    ),
    Mutant(
        "Hadamard stage left out",
        PROLOGUE,
        "for (int mask = 1; mask < 32",
        "for (int mask = 2; mask < 32",
        prologue,
        "",
    ),
    Mutant("sign of the wrong channel", PROLOGUE, ">> (lane * N % 32)", ">> (lane % 32)", prologue, ""),
    Mutant("K not shifted", PROLOGUE, "x[i] -= shift[i] * SIXTEENTH;", "x[i] -= 0.0f;", prologue, ""),
    Mutant("scale to 128", PROLOGUE, "127.0f / top;", "128.0f / top;", prologue, ""),
    Mutant(
        "last token of a run not sampled",
        PROLOGUE,
        "token < last; token += stride",
        "token < last - 1; token += stride",
        prologue,
        "",
    ),
    Mutant(
        "sums read before they are complete",
        PROLOGUE,
        "            block_barrier();  // the last token's sums",
        "            //",
        checks.statistics,
        "",
    ),
]


def run_check(check: Check, library: Path, switch: int = 0) -> None:
    """In the child: the exit code is 0 when the check passes, 1 (an uncaught error) or a signal when it notices.

    switch: of the planted bugs that are in the build, the one that is on.
    """
    faulthandler.disable()  # a crash is a result here
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    emu = Emulator(library)
    emu.lib.emu_choose(switch)
    check(emu)
