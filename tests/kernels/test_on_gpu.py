"""benchmarks/on_gpu.py, every part at a small size on the stand-in driver: runs, judges, writes, survives a failure.

Graphs and streams are torch's own and need a card: here a captured call is called again, and streams follow each other.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from instructx_core.kernels import select, trial

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def on_gpu(load_helper: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import on_gpu

    return on_gpu


def stand_in_card(on_gpu: Any) -> Any:
    class StandInCard(on_gpu.Card):
        def milliseconds(self, call: Callable[[], Any], rounds: int) -> float:
            began = time.perf_counter()
            call()
            return 1e3 * (time.perf_counter() - began)

        def megabytes(self, call: Callable[[], Any]) -> float:
            call()
            return 0.0

        def captured(self, call: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
            out = call()

            def replay() -> None:
                out.copy_(call())

            return out, replay

        def on_streams(self, calls: list[Callable[[], Tensor]]) -> list[Tensor]:
            return [call() for call in calls]

    return StandInCard(torch.device("cpu"))


def test_every_part(on_gpu: Any, emulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = trial.run_trials
    monkeypatch.setattr(trial, "run_trials", lambda device: real(device, cases=("random/64",)))
    monkeypatch.setattr(select, "MIN_TOKENS", 16)
    small = on_gpu.Size("tiny", 1, 64, 2, (1, 8, 8))
    plan = on_gpu.Plan((70,), ((1, 70, 1, 128),), (small,), tokens=40, heads=1, rounds=2)
    run = on_gpu.Run(stand_in_card(on_gpu), plan, time.monotonic() + 300)
    found = on_gpu.measure(run, list(on_gpu.PARTS), tmp_path)
    assert not [part for part in found.values() if "failed" in part or "not run" in part], found
    assert run.usable == ["exact", "int8"] == found["self-test"]["passed"]
    assert 0 < found["error against float32"]["int8 70"]["error"] < 0.018
    assert found["error against float32"]["exact 70"]["same bits"]
    assert found["one step"]["tiny int8"]["ran"] == ["int8"] and found["one step"]["tiny off"]["ran"] == ["host"]
    assert found["one step"]["tiny off"]["ms of all by count"] == found["one step"]["tiny off"]["ms of layers"]
    for part in ("CUDA graph", "two streams"):
        assert all(all(found[part][path].values()) for path in ("exact", "int8"))
    assert "ms" in found["attention"]["host 1x70x1"] and not found["judgement"]["problems"]
    assert json.loads((tmp_path / "stand-in-0.json").read_text()) == found
    assert "## CUDA graph" in (tmp_path / "stand-in-0.md").read_text()


def test_a_part_that_fails_or_comes_late_is_told(on_gpu: Any, emulated, stand_in, tmp_path: Path) -> None:
    plan = on_gpu.Plan((70,), (), (), tokens=40, heads=1)
    run = on_gpu.Run(stand_in_card(on_gpu), plan, time.monotonic() + 300, ["exact"])
    stand_in.break_("cuLaunchKernel")
    found = on_gpu.measure(run, ["environment", "error against float32"], tmp_path)
    assert "cuLaunchKernel failed" in found["error against float32"]["failed"]
    run.deadline = 0.0
    assert on_gpu.measure(run, ["two streams"], tmp_path)["two streams"]["not run"] == "no time left"


def test_without_a_card_the_command_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a card")
    command = ["bash", str(ROOT / "scripts" / "on_gpu.sh")]
    environment = {"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and "error: no card to run on" in done.stderr
