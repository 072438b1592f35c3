"""More planted bugs, all in one build: each is an expression that a number switches on, so that many cost little time.

`old` is a complete expression of the file; `nth` counts its occurrences from 0. The check must notice `new`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import edges
from emulator import CSRC
from mutants import EXACT, INT8, LOOP, PROLOGUE, Check, prologue


@dataclass(frozen=True)
class Switch:
    name: str
    file: str
    old: str
    new: str
    check: Check
    nth: int = 0


def narrow(name: str, file: str, old: str, check: Check, nth: int = 0) -> Switch:
    """The same in 32 bits."""
    return Switch(f"{name} in 32 bits", file, old, f"(int)({old})", check, nth)


SWITCHES = [
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
    """All sources with every switch in them: `old` becomes (emu_mutant() == N ? new : old), N from 1 on."""
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
            chain = f"(emu_mutant() == {number} ? ({SWITCHES[number - 1].new}) : ({chain}))"
        made += text[at:first] + chain
        at = last
    return made + text[at:end]


def span(text: str, switch: Switch) -> tuple[int, int]:
    """Where `old` is. Raises ValueError when the source has changed."""
    at = -1
    for _ in range(switch.nth + 1):
        at = text.index(switch.old, at + 1)
    return at, at + len(switch.old)
