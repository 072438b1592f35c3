"""Every planted bug of mutants.py must be noticed; each is compiled, and checked in a process of its own."""

from __future__ import annotations

import faulthandler
import os
import re
import shutil
import signal
import time
from pathlib import Path

import emulator
import pytest
from mutants import MUTANTS, Mutant

SECONDS = 240.0


def plant(mutant: Mutant, folder: Path) -> tuple[str, ...]:
    """Writes the changed sources to `folder`, less the kernels that the check does not use; returns what to build."""
    for path in emulator.CSRC.iterdir():
        shutil.copy(path, folder / path.name)
    target = folder / mutant.file
    text = target.read_text()
    assert text.count(mutant.old) == mutant.count, f"{mutant.name}: the source has changed, adapt the mutant"
    target.write_text(text.replace(mutant.old, mutant.new))
    if not mutant.kernel:
        return ("prologue.cu",)
    source = "attention_int8.cu" if "int8" in mutant.kernel else "attention.cu"
    lines = (folder / source).read_text().splitlines(keepends=True)
    unused = re.compile(rf"KERNEL\((?!{mutant.kernel},)")
    (folder / source).write_text("".join(line for line in lines if not unused.match(line)))
    return (source,)


def survives(mutant: Mutant, library: Path) -> bool:
    """Runs the check in a fork, because a mutant may crash or hang."""
    child = os.fork()
    if child == 0:
        code = 1
        faulthandler.disable()  # a crash is a result here
        try:
            mutant.check(emulator.Emulator(library))
            code = 0
        finally:
            os._exit(code)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_noticed(mutant: Mutant, tmp_path: Path) -> None:
    if not emulator.available():
        pytest.skip("no g++ to build the emulator with")
    sources = plant(mutant, tmp_path)
    library = emulator.build([tmp_path / name for name in sources], ("-O1",), tmp_path, ".so")
    assert not survives(mutant, library), f"nothing noticed: {mutant.name}"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_applies(mutant: Mutant) -> None:
    """Cheap: the text that a mutant replaces is there."""
    assert (emulator.CSRC / mutant.file).read_text().count(mutant.old) == mutant.count


@pytest.mark.slow
def test_checks_pass_without_a_bug(emu: emulator.Emulator) -> None:
    """Else a mutant would be "noticed" by a check that always fails."""
    for check in dict.fromkeys(mutant.check for mutant in MUTANTS):
        check(emu)
