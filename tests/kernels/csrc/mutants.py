"""Planted bugs that need a build each: one change of a source, and the check that must notice it.

Those of switches.py share a build; here are a constant of the compiler, and one that test_sanitizers.py builds too.
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


MUTANTS = [
    Mutant("copy past the last row", LOOP, "first + row < limit;", "first + row <= limit;", checks.fences),
    Mutant("half the channels of 64", EXACT, "QK_STEPS = D / 16", "QK_STEPS = D / 32", exact_d64, "attention_f16_d64"),
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
