"""The benchmarks that need a ComfyUI run on it: each as a process, at its smallest size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SMALLEST = {
    "host_start": "--runs 1",
    "joins": "--tasks color --windows 2 --host HOST",
    "patched_step": "--dim 128 --ffn 128 --layers 1 --frames 1 --height 32 --width 32 --rounds 2",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_a_benchmark_runs(name: str, hosting: ModuleType, root: Path, tmp_path: Path) -> None:
    output, tree = tmp_path / "figures.json", str(hosting.host_tree())
    arguments = [tree if word == "HOST" else word for word in SMALLEST[name].split()]
    command = [sys.executable, str(root / "benchmarks" / f"{name}.py"), *arguments, "--json", str(output)]
    environment = {**os.environ, "COMFYUI_PATH": tree}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    # 1: a budget was not kept, on a machine that others share
    assert done.returncode in (0, 1) and output.is_file(), done.stdout[-2000:] + done.stderr[-3000:]
    assert json.loads(output.read_text())
