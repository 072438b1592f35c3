"""Planted bugs, all in one build: each is an expression or a statement that a number switches on, so that many cost
little. `old` is complete and of the file; `nth` counts its occurrences from 0. The check must notice `new`: a crash
counts, a hang does not. They keep the emulator and the tests honest: one that survives is a bug class nobody would see
before a GPU does.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import checks
import edges
import torch
from checks import far_strides, fences, statistics
from emulator import CSRC, Emulator

Check = Callable[[Emulator], object]
LOOP, EXACT, INT8, PROLOGUE = "attention.cuh", "attention.cu", "attention_int8.cu", "prologue.cu"


@dataclass(frozen=True)
class Switch:
    name: str
    file: str
    old: str
    new: str
    check: Check
    nth: int = 0
    statement: bool = False


def narrow(name: str, file: str, old: str, check: Check, nth: int = 0) -> Switch:
    """The same in 32 bits."""
    return Switch(f"{name} in 32 bits", file, old, f"(int)({old})", check, nth)


def statement(name: str, file: str, old: str, new: str, check: Check, nth: int = 0) -> Switch:
    return Switch(name, file, old, new, check, nth, statement=True)


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


PAST_THE_END = "copy past the last row"
BEFORE_V = "block_barrier();  // for all threads, and nobody reads V[i-1] any more\n"
BEFORE_K = "block_barrier();  // for all threads, and nobody reads K[i] any more\n"
WAIT_K = "copy_wait<0>();   // K[i] has arrived for this thread,\n"
WAIT_V = "copy_wait<0>();   // V[i] has arrived for this thread,\n"
LOAD_V = "        load_values<Policy>(v_tile, args, at);\n        copy_commit();\n"
VALUES = "(v, tile + swizzle<Policy::V_ROW>(step * 16 + (lane & 15), pair * 2 + (lane >> 4)));"
V_HEAD = "(at.second ? args.v2 : args.v) + b * view.sb + h * view.sh"
LSE = "(state.base[r] + (log2_exact(sum) + Policy::OFFSET))"
SHIFT = "load<float>(args.lse_shift2 + at)"

SWITCHES = [
    # order of copies and barriers
    statement("barrier before V's copy dropped", LOOP, BEFORE_V, "", exact),
    statement("barrier before K's copy dropped", LOOP, BEFORE_K, "", exact),
    statement("wait for K lets one group fly", LOOP, WAIT_K, "copy_wait<1>();", exact),
    statement("wait for V lets one group fly", LOOP, WAIT_V, "copy_wait<1>();", exact),
    statement("V's copy before the barrier", LOOP, BEFORE_V + LOAD_V, LOAD_V + BEFORE_V, exact),
    statement("half a block skips a barrier", LOOP, BEFORE_K, "if (thread_index() < 128) block_barrier();", exact),
    statement("barrier of the norm dropped", PROLOGUE, "block_barrier();", "", prologue),
    statement("sums read before they are complete", PROLOGUE, "block_barrier();", "", statistics, 1),
    # tiles and fragments
    Switch("tail keeps one key too many", LOOP, "n * 8 + 2 * t + (i & 1) >= keys", "n * 8 + 2 * t + (i & 1) > keys",
           exact),
    Switch("tail never masked", LOOP, "at.limit - at.first < TILE_K", "false", exact),
    Switch("swizzle over 4 rows", LOOP, "row & 7", "row & 3", exact),
    Switch("swizzle of 64-byte rows", LOOP, "(row >> 1) & 3", "row & 3", int8_d64),
    statement("K fragment halves swapped", LOOP, "Policy::multiply_qk(s[n], q[step], k[0], k[1]);",
              "Policy::multiply_qk(s[n], q[step], k[1], k[0]);", exact),
    Switch("half the channels", LOOP, "step < Policy::QK_STEPS", "step < Policy::QK_STEPS / 2", exact_d64, 1),
    Switch("Q rows of the wrong lanes", LOOP, "warp * 16 + (lane & 15)", "warp * 16 + (lane >> 1)", exact),
    statement("V not transposed", LOOP, f"load_matrix_trans{VALUES}", f"load_matrix{VALUES}", exact),
    Switch("probabilities in the wrong quarter", LOOP, "s[2 * step + (i >> 1)]", "s[2 * step + (i & 1)]", exact),
    Switch(PAST_THE_END, LOOP, "first + row < limit", "first + row <= limit", fences),
    Switch("store past the last row", LOOP, "row >= args.sq", "row > args.sq", fences),
    Switch("32-bit row offset", LOOP, "(inside ? first + row : 0) * stride", "(inside ? first + row : 0) * (int)stride",
           far_strides),
    Switch("second segment reads the first", LOOP, "(at.second ? args.k2 : args.k)", "args.k", exact),
    Switch("second segment starts late", LOOP, "(index - tiles) * TILE_K", "(index - tiles + 1) * TILE_K", exact),
    Switch("heads ignored", LOOP, V_HEAD, "(at.second ? args.v2 : args.v) + b * view.sb", exact),
    # softmax and output
    statement("row maximum over two of four lanes", LOOP, "top = maximum(top, shuffle_xor(top, 2));", "", exact),
    statement("sum over two of four lanes", LOOP, "sum += shuffle_xor(sum, 2);", "", exact),
    Switch("sum never rescaled", LOOP, "multiply_add(state.sum[r], state.rescale[r], sum)", "state.sum[r] + sum",
           exact),
    Switch("LSE in base 2", LOOP, f"{LSE} * LN_2", LSE, exact),
    statement("output never rescaled", EXACT, "o[n][i] *= state.rescale[i >> 1];", "o[n][i] *= 1.0f;", exact),
    Switch("bias of the second segment not shifted", EXACT, "(at.second ? args.skv * 4ll : 0)", "0", bias),
    statement("bias of the wrong column", EXACT, "s[n][2 + j] += extra;", "s[n][3 - j] += extra;", bias),
    Switch("exponent of q not lowered", EXACT, "shift < 0 || shift > 136", "true", largest),
    # int8
    Switch("second segment's shift in the wrong base", INT8, "difference * LOG2_E", "difference", int8_kernel),
    Switch("first shift left on the second segment", INT8, f"{SHIFT} - lse_shift(args, at)", SHIFT, int8_kernel),
    Switch("second shift without the row's factor", INT8, "difference * LOG2_E / factor[r]", "difference * LOG2_E",
           int8_kernel),
    Switch("K scale of the neighbour", INT8, "scale[i & 1]", "scale[i >> 1]", int8_kernel),
    Switch("Q scale of the other row", INT8, "load<float>(args.q_scale + at)",
           "load<float>(args.q_scale + at - at % 2)", int8_kernel),
    Switch("K scales of the first head", INT8, "((i64)block_z() * args.heads + block_y()) * at.limit", "0",
           int8_kernel),
    Switch("V exponent off by one", INT8, "(exponent == 0 ? 1u : exponent) << 23", "(exponent + 1u) << 23",
           int8_kernel),
    Switch("fp16 sum not rescaled", INT8, "multiply_add(out[2 * r], state.rescale[r], x)", "out[2 * r] + x",
           int8_kernel),
    # prologue
    Switch("norm over one head", PROLOGUE, "total.plain / width + eps", "total.plain / 128 + eps", prologue),
    Switch("RoPE turns the other way", PROLOGUE, "even * angles.cos[i / 2] - odd * angles.sin[i / 2]",
           "even * angles.cos[i / 2] + odd * angles.sin[i / 2]", prologue),
    Switch("Hadamard stage left out", PROLOGUE, "mask < 32", "mask < 16", prologue),
    Switch("sign of the wrong channel", PROLOGUE, "sign_word(lane * N / 32) >> (lane * N % 32)",
           "sign_word(lane * N / 32) >> (lane % 32)", prologue),
    Switch("K not shifted", PROLOGUE, "shift[i] * SIXTEENTH", "0.0f", prologue),
    Switch("scale to 128", PROLOGUE, "127.0f / top", "128.0f / top", prologue),
    Switch("last token of a run not sampled", PROLOGUE, "token < last", "token < last - 1", prologue, 1),
    # addresses
    narrow("output row", LOOP, "row * args.so.ss", edges.exact_far),
    narrow("output sample", LOOP, "b * args.so.sb", edges.exact_far),
    narrow("output head", LOOP, "h * args.so.sh", edges.exact_far),
    narrow("Q sample", LOOP, "b * args.sq_.sb", edges.exact_far),
    narrow("Q head", LOOP, "h * args.sq_.sh", edges.exact_far),
    narrow("K sample", LOOP, "b * view.sb", edges.exact_far),
    narrow("K head", LOOP, "h * view.sh", edges.exact_far),
    narrow("V sample", LOOP, "b * view.sb", edges.exact_far, 1),
    narrow("V head", LOOP, "h * view.sh", edges.exact_far, 1),
    narrow("bias sample", EXACT, "block_z() * args.bias_sb", edges.exact_far),
    narrow("bias head", EXACT, "block_y() * args.bias_sh", edges.exact_far),
    narrow("prologue's Q sample", PROLOGUE, "b * args.sq_.sb", edges.prologue_far),
    narrow("prologue's Q token", PROLOGUE, "token * args.sq_.ss", edges.prologue_far),
    narrow("prologue's Q head", PROLOGUE, "from * args.sq_.sh", edges.prologue_far),
    narrow("prologue's K sample", PROLOGUE, "b * args.sk.sb", edges.prologue_far),
    narrow("prologue's K token", PROLOGUE, "token * args.sk.ss", edges.prologue_far),
    narrow("prologue's K head", PROLOGUE, "from * args.sk.sh", edges.prologue_far),
    narrow("prologue's V sample", PROLOGUE, "b * args.sv.sb", edges.prologue_far),
    narrow("prologue's V token", PROLOGUE, "token * args.sv.ss", edges.prologue_far),
    narrow("prologue's V head", PROLOGUE, "from * args.sv.sh", edges.prologue_far),
    narrow("norm's head", PROLOGUE, "h * head_stride", edges.prologue_far),
    narrow("statistics' V sample", PROLOGUE, "b * args.sv.sb", edges.prologue_far, 1),
    narrow("statistics' V head", PROLOGUE, "h * args.sv.sh", edges.prologue_far),
    narrow("statistics' V token", PROLOGUE, "token * args.sv.ss", edges.prologue_far, 1),
    narrow("statistics' K sample", PROLOGUE, "b * args.sk.sb", edges.prologue_far, 1),
    narrow("statistics' K token", PROLOGUE, "token * args.sk.ss", edges.prologue_far, 1),
    narrow("statistics' K head", PROLOGUE, "h * args.sk.sh", edges.prologue_far),
    narrow("q8", PROLOGUE, "((i64)b * args.sq + token) * width", edges.prologue_large),
    narrow("k8 and v16", PROLOGUE, "((i64)b * args.skv + token) * width", edges.prologue_large),
    narrow("v16", PROLOGUE, "at * 2", edges.prologue_large),
    # keys
    Switch("key position in 16 bits", LOOP, "index * TILE_K", "(short)(index * TILE_K)", edges.long_keys),
    Switch("K scales wrap at 1024", INT8, "(inside ? at.first + i : 0)", "(inside ? at.first % 1024 + i : 0)",
           edges.key_scales),
    Switch("second K scales wrap at 1024", INT8, "(inside ? at.first + i : 0)",
           "(inside ? at.first % (at.second ? 1024 : 65536) + i : 0)", edges.second_key_scales),
    # numbers
    Switch("RoPE of the first sample", PROLOGUE, "b * args.rope_sb", "0 * args.rope_sb", edges.rope_of_each_sample),
    Switch("statistics' RoPE of the first sample", PROLOGUE, "b * args.rope_sb", "0 * args.rope_sb",
           edges.rope_of_each_sample, 1),
    Switch("eps left out", PROLOGUE, "total.plain / width + eps", "total.plain / width", edges.eps),
    Switch("eps of another model", PROLOGUE, "total.plain / width + eps", "total.plain / width + 1e-6f", edges.eps),
    Switch("overflow undone by half", PROLOGUE, "SMALL / square_root(total.small / width)",
           "32.0f * SMALL / square_root(total.small / width)", edges.norm_overflow),
    Switch("overflow of one head", PROLOGUE, "total.small / width", "total.small / 64", edges.norm_overflow),
    Switch("overflow not noticed", PROLOGUE, "total.plain < 3e38f", "total.plain < 4e38f || true", edges.norm_overflow),
    Switch("fp16 output not clamped", EXACT, "65504.0f", "3e38f", edges.fp16_clamp),
    Switch("int8's fp16 output not clamped", INT8, "65504.0f", "3e38f", edges.fp16_clamp_int8),
    Switch("largest V without an atomic", PROLOGUE, "atomic_max(args.v_max + b * heads + h, top)",
           "(load<u32>(args.v_max + b * heads + h) < top ? store<u32>(args.v_max + b * heads + h, top) : (void)0)",
           edges.largest_v),
    Switch("largest V of the first sample", PROLOGUE, "args.v_max + b * heads + h", "args.v_max + h", edges.largest_v),
    # some heads of all
    Switch("norm over the group", PROLOGUE, "all * D", "heads * D", edges.head_group),
    Switch("norm of the group's heads", PROLOGUE, "sum_squares<N>(k, args.sk.sh, all, args.is_bf16)",
           "sum_squares<N>(k, args.sk.sh, heads, args.is_bf16)", edges.head_group),
    Switch("weights of the first heads", PROLOGUE, "args.wq + from * D * 2", "args.wq + h * D * 2", edges.head_group),
    Switch("K weights of the first heads", PROLOGUE, "args.wk + from * D * 2", "args.wk + h * D * 2", edges.head_group),
    Switch("shift of the first heads", PROLOGUE, "(i64)b * all + from", "(i64)b * all + h", edges.head_group),
    Switch("shift of the group's stride", PROLOGUE, "(i64)b * all + from", "(i64)b * heads + from", edges.head_group),
    Switch("Q of the first heads", PROLOGUE, "q + from * args.sq_.sh", "q + h * args.sq_.sh", edges.head_group),
    Switch("V of the first heads", PROLOGUE, "v + from * args.sv.sh", "v + h * args.sv.sh", edges.head_group),
    Switch("K scale of the query", PROLOGUE, "args.k_scale + head * args.skv + token",
           "args.k_scale + head * args.skv + args.skv - 1 - token", prologue),
]  # fmt: skip


def write(folder: Path) -> None:
    """All sources with every switch in them: `old` becomes (emu_mutant() == N ? new : old), N from 1 on.

    A statement becomes if (emu_mutant() == N) { new } else { old }.
    """
    for path in CSRC.iterdir():
        text = path.read_text(encoding="utf-8")
        spans: dict[tuple[int, int], list[int]] = {}
        for number, switch in enumerate(SWITCHES, 1):
            if switch.file == path.name:
                spans.setdefault(span(text, switch), []).append(number)
        (folder / path.name).write_text(rendered(text, 0, len(text), spans), encoding="utf-8")


def rendered(text: str, start: int, end: int, spans: dict[tuple[int, int], list[int]]) -> str:
    """text[start:end] with the switches that lie inside, of which one may hold others."""
    inside = [s for s in spans if start <= s[0] and s[1] <= end and s != (start, end)]
    outer = [s for s in inside if not any(o != s and o[0] <= s[0] and s[1] <= o[1] for o in inside)]
    made, at = "", start
    for first, last in sorted(outer):
        chain = rendered(text, first, last, spans)
        for number in spans[first, last]:
            switch = SWITCHES[number - 1]
            if switch.statement:
                chain = f"if (emu_mutant() == {number}) {{ {switch.new} }} else {{ {chain} }}"
            else:
                chain = f"(emu_mutant() == {number} ? ({switch.new}) : ({chain}))"
        made += text[at:first] + chain
        at = last
    return made + text[at:end]


def span(text: str, switch: Switch) -> tuple[int, int]:
    """Where `old` is. Raises ValueError when the source has changed."""
    at = -1
    for _ in range(switch.nth + 1):
        at = text.index(switch.old, at + 1)
    return at, at + len(switch.old)


def run_check(check: Check, library: Path, switch: int = 0) -> None:
    """In the child: the exit code is 0 when the check passes, 1 (an uncaught error) or a signal when it notices.

    switch: the bug that is on, by its place in SWITCHES from 1 on; 0 none.
    """
    faulthandler.disable()  # a crash is a result here
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    emu = Emulator(library)
    emu.lib.emu_choose(switch)
    check(emu)
