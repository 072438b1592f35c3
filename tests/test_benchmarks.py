"""Every benchmark runs, at its smallest size. Nobody looks at the figures here.

Each runs as a program in this process, which has loaded the libraries already, and so does a benchmark that another one
starts, except for those of PROCESSES. Those that need a ComfyUI run in its lane: tests/comfyui/test_benchmarks.py.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
PARTS = {"results", "comfy_host", "process"}  # what they share
PROCESSES = {"pipeline", "lora", "sharded_step"}  # what these start are processes here too
PROCESS = subprocess.run
SMALLEST = {
    "chain": "--items 3 --rounds 1",
    "ceiling": "--world world --tasks color --images 1 --clips 1",
    "edit": "--frames 5 --size 32 --rounds 1 --turns 1",
    "joins": "--tasks color --windows 2",
    "large": "--size 96x64 --frames 5 --tiles 64",
    "loader": "--samples 2 --image-size 64x64 --video-size 64x64 --frames 5 --rounds 1",
    "load": "--dim 128 --layers 1 --kinds bf16",
    "long_memory": "--seconds 1 --steps 1 --side 32",
    "lora": "--pairs 10 --steps 2 --new 1 --images 11 --clips 0",
    "media": "--seconds 1 --size 32x32 --rounds 1",
    "pipeline": "--frames 1 --size 32 --steps 1 --rounds 1",
    "rates": "--tasks color --fps 24 --steps 1",
    "sharded_step": "--layers 2 --size 32x32 --steps 1",
    "synthesis": "--films 1 --sets static",
    "synthesis_load": "--clips 2",
    "synthesised_pairs": "--clips 2 --steps 2 --batch 1 --items 1",
    "steps": "--images 1 --batch-size 1 --steps 1",
    "training_step": "--recipes tiny_vae --steps 1 --batch 1 --draws 2",
}


def run_here(path: str, *arguments: str) -> None:
    """A benchmark as its command line runs it. Raises SystemExit with its code where it has one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [path, *arguments])
        patch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as ended:
            if ended.code:
                raise


def child_here(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """`subprocess.run`, of a benchmark without a process."""
    if command[0] != sys.executable or Path(command[1]).parent != BENCHMARKS:
        return PROCESS(command, **options)
    with redirect_stdout(StringIO()) as output:
        run_here(*command[1:])
    return subprocess.CompletedProcess(command, 0, output.getvalue(), "")


def left_behind() -> list[str]:
    """Names in the package that hold a program's function or class: it was put there, and would serve the next test."""
    modules = [(name, vars(module)) for name, module in sys.modules.items() if name.startswith("instructx_core")]
    values = [(f"{name}.{key}", value) for name, globals_ in modules for key, value in globals_.items()]
    return [name for name, value in values if getattr(value, "__module__", None) == "__main__"]


def torch_state() -> tuple[Any, ...]:
    return torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """program(name, *arguments): runs a benchmark, which must leave the package and torch as it found them."""
    modules, state = set(sys.modules), torch_state()

    def run(name: str, *arguments: str) -> None:
        if name not in PROCESSES:
            monkeypatch.setattr(subprocess, "run", child_here)
        run_here(str(BENCHMARKS / f"{name}.py"), *arguments)

    yield run
    assert left_behind() == []
    assert torch_state() == state
    for name in (PARTS & sys.modules.keys()) - modules:  # "results" is a name that another may want
        del sys.modules[name]


@pytest.mark.slow
@pytest.mark.usefixtures("shipped")
@pytest.mark.parametrize("name", SMALLEST)
def test_a_benchmark_runs(name: str, tmp_path: Path, bunny: Path, program: Callable[..., None]) -> None:
    output, given = tmp_path / "figures.json", {"large": [str(bunny)], "lora": ["--work", str(tmp_path / "work")]}
    program(name, *given.get(name, ()), *SMALLEST[name].split(), "--json", str(output))
    assert json.loads(output.read_text())


@pytest.mark.slow
def test_attention_needs_a_card(tmp_path: Path) -> None:
    """With one, it runs; without, it says so in one line."""
    output = tmp_path / "card.json"
    command = [sys.executable, str(BENCHMARKS / "attention.py"), "--quick", "--json", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if torch.cuda.is_available():
        assert done.returncode == 0 and json.loads(output.read_text()), done.stderr
    else:
        assert done.returncode == 2 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1


def test_none_is_forgotten(load_helper: Callable[[str, str], ModuleType]) -> None:
    lane = load_helper("instructx_test_host_benchmarks", "comfyui/test_benchmarks.py")
    here = {path.stem for path in BENCHMARKS.glob("*.py")} - PARTS
    assert here == {*SMALLEST, *lane.SMALLEST, "attention", "on_gpu"} and "joins" in lane.SMALLEST


def test_a_table_goes_between_its_marks(load_helper: Callable[[str, str], ModuleType], tmp_path: Path) -> None:
    results = load_helper("instructx_bench_results", "../benchmarks/results.py")
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x -->\nold\n<!-- end of x -->\nb\n")
    results.write_table(page, "x", "| new |")
    assert page.read_text() == "a\n<!-- x -->\n\n| new |\n\n<!-- end of x -->\nb\n"
    with pytest.raises(SystemExit, match="must hold the marks"):
        results.write_table(page, "y", "| new |")
