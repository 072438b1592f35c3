"""scripts/train_on_gpu.sh, rehearsed on this machine: all that it says is in its folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from instructx_core.training.recipes.tiny import TINY
from instructx_core.weights import SHIPPED, load_pipeline

SCRIPT = Path(__file__).parents[2] / "scripts" / "train_on_gpu.sh"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    values = {"PYTHON": sys.executable, "WORKERS": "1", "HARDWARE": "a rehearsal", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments], capture_output=True, text=True, env=os.environ | values, timeout=1500
    )


def test_it_says_how_it_is_called(tmp_path: Path) -> None:
    for arguments in ((), (str(tmp_path), "--fast"), (str(tmp_path), "--tiny-steps", "x")):
        done = run(*arguments)
        assert done.returncode == 2 and "usage:" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_rehearsal(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    shutil.copy(SHIPPED / "tokenizer.json", tmp_path / "runs")  # training one takes a while
    done = run(str(tmp_path), "--tiny-steps")
    assert done.returncode == 0, done.stderr + done.stdout
    assert set(json.loads((tmp_path / "minutes.json").read_text())) == set(TINY)
    assert json.loads((tmp_path / "ceiling.json").read_text()) and json.loads(
        (tmp_path / "evaluation.json").read_text()
    )
    card = (tmp_path / "model" / "README.md").read_text()
    assert "a rehearsal" in card and "instructx eval world" in card and all(f"| `{name}` |" in card for name in TINY)
    assert load_pipeline(tmp_path / "model").instructx_config.name == "tiny2"
    assert (tmp_path / "train.log").read_text().count("4 steps") == len(TINY)
