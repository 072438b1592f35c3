"""Every planted bug of mutants.py and switches.py must be noticed, each in a process of its own.

Those of mutants.py are compiled one at a time, those of switches.py all together.
"""

from __future__ import annotations

import multiprocessing
import re
import shutil
from pathlib import Path

import emulator
import pytest
import switches
from mutants import MUTANTS, Check, Mutant, run_check
from switches import SWITCHES, Switch

SECONDS = 60.0  # a check takes less than one


def plant(mutant: Mutant, folder: Path) -> tuple[str, ...]:
    """Writes the changed sources to `folder`, less the kernels that the check does not use; returns what to build."""
    for path in emulator.CSRC.iterdir():
        shutil.copy(path, folder / path.name)
    target = folder / mutant.file
    text = target.read_text()
    assert text.count(mutant.old) == mutant.count, f"{mutant.name}: the source has changed, adapt the mutant"
    target.write_text(text.replace(mutant.old, mutant.new))
    source = "attention_int8.cu" if "int8" in mutant.kernel else "attention.cu"
    lines = (folder / source).read_text().splitlines(keepends=True)
    unused = re.compile(rf"KERNEL\((?!{mutant.kernel},)")
    (folder / source).write_text("".join(line for line in lines if not unused.match(line)))
    return (source,)


def survives(name: str, check: Check, library: Path, switch: int = 0) -> bool:
    """Runs the check in a process of its own, because a mutant may crash or hang.

    Not a fork of this one: after OpenMP has run in the parent, its thread pool deadlocks in the child, and a hang would
    pass for a bug that was noticed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["emulator", "mutants", "switches", "torch"])
    child = context.Process(target=run_check, args=(check, library, switch))
    child.start()
    child.join(SECONDS)
    if child.exitcode is None:
        child.kill()
        child.join()
        pytest.fail(f"{name}: no result in {SECONDS:.0f} s; the emulator should have found the deadlock")
    return child.exitcode == 0


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_noticed(mutant: Mutant, tmp_path: Path) -> None:
    if not emulator.available():
        pytest.skip("no g++ to build the emulator with")
    sources = plant(mutant, tmp_path)
    library = emulator.library(("-O1",), tmp_path, sources)
    assert not survives(mutant.name, mutant.check, library), f"nothing noticed: {mutant.name}"


@pytest.fixture(scope="module")
def switched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library with every bug of switches.py in it, off."""
    if not emulator.available():
        pytest.skip("no g++ to build the emulator with")
    folder = tmp_path_factory.mktemp("switched")
    switches.write(folder)
    return emulator.library(("-O1",), folder)


@pytest.mark.slow
@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.name)
def test_switched_bug_is_noticed(switch: Switch, switched: Path) -> None:
    assert not survives(switch.name, switch.check, switched, SWITCHES.index(switch) + 1), (
        f"nothing noticed: {switch.name}"
    )


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.name)
def test_switch_applies(switch: Switch) -> None:
    """Cheap: the expression that it replaces is there, and there are two results."""
    text = (emulator.CSRC / switch.file).read_text()
    assert text.count(switch.old) > switch.nth and switch.old != switch.new


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_applies(mutant: Mutant) -> None:
    """Cheap: the text that a mutant replaces is there."""
    assert (emulator.CSRC / mutant.file).read_text().count(mutant.old) == mutant.count


@pytest.mark.slow
def test_checks_pass_without_a_bug(emu: emulator.Emulator) -> None:
    """Else a mutant would be "noticed" by a check that always fails."""
    for check in dict.fromkeys(mutant.check for mutant in (*MUTANTS, *SWITCHES)):
        check(emu)


@pytest.mark.slow
def test_child_passes_without_a_bug(emu: emulator.Emulator) -> None:
    """The same in a child, which could fail for reasons of its own."""
    assert survives("none", MUTANTS[0].check, emulator.library())
