"""The kernels in a program of their own under ASan and UBSan, on allocations without slack; and that it notices."""

from __future__ import annotations

import subprocess
from pathlib import Path

import emulator
import pytest
from switches import PAST_THE_END, SWITCHES, write

FLAGS = ("-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
MAIN = Path(__file__).parent / "sanitize.cpp"
SOURCES = ("attention.cu", "attention_int8.cu", "prologue.cu")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of the sources with the planted bugs of switches.py in them, off."""
    if not emulator.available():
        pytest.skip("no g++ to build the emulator with")
    folder = tmp_path_factory.mktemp("switched")
    write(folder)
    try:
        return emulator.build([MAIN, *(folder / name for name in SOURCES)], FLAGS, folder, "")
    except subprocess.CalledProcessError as error:
        if "cannot find" in error.stderr and "san" in error.stderr:
            pytest.skip("this compiler has no sanitizers")
        raise


def run(program: Path, switch: int = 0) -> subprocess.CompletedProcess[str]:
    # Leaks: kernels that stop at a finding leave their stacks behind on purpose.
    environment = {"ASAN_OPTIONS": "detect_leaks=0"}
    return subprocess.run([str(program), str(switch)], capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_clean(program: Path) -> None:
    done = run(program)
    assert done.returncode == 0 and "launches" in done.stdout, done.stdout[-500:] + done.stderr[-3000:]


@pytest.mark.slow
def test_notices_a_copy_past_the_end(program: Path) -> None:
    done = run(program, [switch.name for switch in SWITCHES].index(PAST_THE_END) + 1)
    assert done.returncode != 0 and "AddressSanitizer" in done.stderr, done.stderr[-2000:]
