"""Every planted bug of switches.py must be noticed, each in a process of its own."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import emulator
import pytest
import switches
from switches import SWITCHES, Check, Switch, run_check

SECONDS = 60.0  # a check takes less than one


def survives(name: str, check: Check, library: Path, switch: int = 0) -> bool:
    """Runs the check in a process of its own, because a mutant may crash or hang.

    Not a fork of this one: after OpenMP has run in the parent, its thread pool deadlocks in the child, and a hang would
    pass for a bug that was noticed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["emulator", "switches", "torch"])
    child = context.Process(target=run_check, args=(check, library, switch))
    child.start()
    child.join(SECONDS)
    if child.exitcode is None:
        child.kill()
        child.join()
        pytest.fail(f"{name}: no result in {SECONDS:.0f} s; the emulator should have found the deadlock")
    return child.exitcode == 0


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


@pytest.mark.slow
def test_checks_pass_without_a_bug(emu: emulator.Emulator) -> None:
    """Else a mutant would be "noticed" by a check that always fails."""
    for check in dict.fromkeys(switch.check for switch in SWITCHES):
        check(emu)


@pytest.mark.slow
def test_child_passes_without_a_bug(emu: emulator.Emulator) -> None:
    """The same in a child, which could fail for reasons of its own."""
    assert survives("none", SWITCHES[0].check, emulator.library())
