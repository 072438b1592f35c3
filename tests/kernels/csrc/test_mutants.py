"""Every planted bug of mutants.py must be noticed; each is compiled, and checked in a process of its own."""

from __future__ import annotations

import multiprocessing
import re
import shutil
from pathlib import Path

import emulator
import pytest
from mutants import MUTANTS, Mutant, run_check

SECONDS = 60.0  # a check takes less than one


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
    """Runs the check in a process of its own, because a mutant may crash or hang.

    Not a fork of this one: after OpenMP has run in the parent, its thread pool deadlocks in the child, and a hang would
    pass for a bug that was noticed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["emulator", "mutants", "torch"])
    child = context.Process(target=run_check, args=(MUTANTS.index(mutant), library))
    child.start()
    child.join(SECONDS)
    if child.exitcode is None:
        child.kill()
        child.join()
        pytest.fail(f"{mutant.name}: no result in {SECONDS:.0f} s; the emulator should have found the deadlock")
    return child.exitcode == 0


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


@pytest.mark.slow
def test_child_passes_without_a_bug(emu: emulator.Emulator) -> None:
    """The same in a child, which could fail for reasons of its own."""
    assert survives(MUTANTS[0], emulator.library())
