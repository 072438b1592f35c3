"""Every benchmark runs: each as a process, at its smallest size. Nobody looks at the figures here.

Those that need a ComfyUI run in its lane: tests/comfyui/test_benchmarks.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
PARTS = {"results", "comfy_host", "process"}  # what they share
SMALLEST = {
    "ceiling": "--world world --tasks color --images 1 --clips 1",
    "edit": "--frames 5 --size 32 --rounds 1 --turns 1",
    "joins": "--tasks color --windows 2",
    "large": "--size 96x64 --frames 5 --tiles 64",
    "load": "--dim 128 --layers 1 --kinds bf16",
    "long_memory": "--seconds 1 --steps 1 --side 32",
    "media": "--seconds 1 --size 32x32 --rounds 1",
    "pipeline": "--frames 1 --size 32 --steps 1 --rounds 1",
    "steps": "--images 1 --batch-size 1 --steps 1",
}


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize("name", SMALLEST)
def test_a_benchmark_runs(name: str, tmp_path: Path, bunny: Path) -> None:
    output, source = tmp_path / "figures.json", [str(bunny)] if name == "large" else []
    done = run(name, *source, *SMALLEST[name].split(), "--json", str(output))
    assert done.returncode == 0, done.stderr
    assert json.loads(output.read_text())


@pytest.mark.slow
def test_attention_needs_a_card(tmp_path: Path) -> None:
    """With one, it runs; without, it says so in one line."""
    output = tmp_path / "card.json"
    done = run("attention", "--quick", "--json", str(output))
    if torch.cuda.is_available():
        assert done.returncode == 0 and json.loads(output.read_text()), done.stderr
    else:
        assert done.returncode == 2 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1


def test_none_is_forgotten(load_helper: Callable[[str, str], ModuleType]) -> None:
    lane = load_helper("instructx_test_host_benchmarks", "comfyui/test_benchmarks.py")
    here = {path.stem for path in BENCHMARKS.glob("*.py")} - PARTS
    assert here == {*SMALLEST, *lane.SMALLEST, "attention"} and "joins" in lane.SMALLEST


def test_a_table_goes_between_its_marks(load_helper: Callable[[str, str], ModuleType], tmp_path: Path) -> None:
    results = load_helper("instructx_bench_results", "../benchmarks/results.py")
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x -->\nold\n<!-- end of x -->\nb\n")
    results.write_table(page, "x", "| new |")
    assert page.read_text() == "a\n<!-- x -->\n\n| new |\n\n<!-- end of x -->\nb\n"
    with pytest.raises(SystemExit, match="must hold the marks"):
        results.write_table(page, "y", "| new |")
