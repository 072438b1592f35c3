"""The benchmarks run: each as a process, at its smallest size. Nobody looks at the figures here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SMALLEST = {
    "pipeline": ["--frames", "1", "--size", "32", "--steps", "1", "--rounds", "1"],
    "ceiling": ["--images", "1", "--clips", "1"],
    "edit": ["--frames", "5", "--size", "32", "--rounds", "1", "--turns", "1"],
    "long_memory": ["--seconds", "1", "2", "--steps", "1", "--side", "32"],
    "large": ["--size", "96x64", "--frames", "5", "--tiles", "64"],
}


@pytest.mark.slow
@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize("name", SMALLEST)
def test_a_benchmark_runs(name: str, tmp_path: Path, bunny: Path) -> None:
    output, source = tmp_path / "figures.json", [str(bunny)] if name == "large" else []
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *source, *SMALLEST[name], "--json", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert json.loads(output.read_text())
