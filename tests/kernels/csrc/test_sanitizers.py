"""The kernels in a program of their own under ASan and UBSan, on allocations without slack; and that it notices."""

from __future__ import annotations

import subprocess
from pathlib import Path

import emulator
import pytest
from emulator import CSRC
from mutants import MUTANTS
from test_mutants import plant

FLAGS = ("-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
MAIN = Path(__file__).parent / "sanitize.cpp"
SOURCES = ("attention.cu", "attention_int8.cu", "prologue.cu")


def run(csrc: Path) -> subprocess.CompletedProcess[str]:
    try:
        program = emulator.build([MAIN, *(csrc / name for name in SOURCES)], FLAGS, csrc, "")
    except subprocess.CalledProcessError as error:
        if "cannot find" in error.stderr and "san" in error.stderr:
            pytest.skip("this compiler has no sanitizers")
        raise
    # Leaks: kernels that stop at a finding leave their stacks behind on purpose.
    return subprocess.run([str(program)], capture_output=True, text=True, env={"ASAN_OPTIONS": "detect_leaks=0"})


@pytest.mark.slow
def test_clean() -> None:
    if not emulator.available():
        pytest.skip("no g++ to build the emulator with")
    done = run(CSRC)
    assert done.returncode == 0 and "launches" in done.stdout, done.stdout[-500:] + done.stderr[-3000:]


@pytest.mark.slow
def test_notices_a_copy_past_the_end(tmp_path: Path) -> None:
    if not emulator.available():
        pytest.skip("no g++ to build the emulator with")
    plant(next(m for m in MUTANTS if m.name == "copy past the last row"), tmp_path)
    for name in SOURCES:  # plant() leaves one kernel of a source; the program needs all
        (tmp_path / name).write_text((CSRC / name).read_text())
    done = run(tmp_path)
    assert done.returncode != 0 and "AddressSanitizer" in done.stderr, done.stderr[-2000:]
