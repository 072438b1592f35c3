"""What is timed, when it is timed again, and what follows for runs that are half done: with planted times."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from instructx_core.study import calibration
from instructx_core.study.calibration import COSTS, calibrate, fixed_work, read_costs, variant_kind, wanted_times
from instructx_core.study.cost import estimated, forecast, measured_pool, note_drawn, pools_of, steps_left
from instructx_core.study.experiments import EXPERIMENTS
from instructx_core.study.scales import SCALES
from instructx_core.study.schedule import Run, all_runs
from instructx_core.training.machine import Machine

SCALE = SCALES["tiny"]
RUNS = all_runs(SCALE, [EXPERIMENTS["fig15"]])
TIMES = {"open": 2.0, "draw image": 0.01, "draw video": 0.1, "measure image": 0.02, "measure video": 0.3}
STEPS = {"align image": 0.5, "edit image": 1.0, "edit video": 2.0}
EVERY = {variant_kind(run): TIMES | STEPS for run in RUNS}
EDIT = next(run for run in RUNS if run.measured and run.recipe.video_probability == 0.6)


class Stopwatch:
    """Notes what would be timed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.probe = list[str](), 1.0
        monkeypatch.setattr(calibration, "timed", self.timed)
        monkeypatch.setattr(calibration, "fixed_work", lambda: self.probe)

    def timed(self, run: Run, stage: str, modality: str, output: Path, machine: Machine) -> dict[str, float]:
        self.asked.append(f"{run.recipe.design} {stage} {modality}")
        return TIMES | {f"{stage} {modality}": 1.0}

    def calibrate(self, output: Path, runs: list[Run] = RUNS) -> int:
        """How many were timed."""
        before = len(self.asked)
        calibrate(runs, output, Machine())
        return len(self.asked) - before


def test_every_kind_of_variant_is_timed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Stopwatch(monkeypatch)
    assert watch.calibrate(tmp_path) == sum(map(len, wanted_times(RUNS).values())) == 6
    assert watch.calibrate(tmp_path) == 0
    fig4 = all_runs(SCALE, [EXPERIMENTS["fig4_left"]])
    assert watch.calibrate(tmp_path, fig4) == 2, "those of InstructX are there"


def old(output: Path) -> None:
    """Two hours pass."""
    before = time.time() - 7200
    os.utime(output / COSTS, (before, before))


def test_another_machine_is_timed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Stopwatch(monkeypatch)
    assert watch.calibrate(tmp_path) == 6
    watch.probe = 1.3
    assert watch.calibrate(tmp_path) == 0, "within the hour"
    old(tmp_path)
    watch.probe = 1.1
    assert watch.calibrate(tmp_path) == 0
    watch.probe = 1.3
    assert watch.calibrate(tmp_path) == 6
    monkeypatch.setattr(calibration, "processor", lambda: "another")
    assert watch.calibrate(tmp_path) == 6


@pytest.mark.parametrize("text", ["", "{", "[]", '{"probe": "x"}', '{"probe": 1}'])
def test_damaged_times_are_made_anew(text: str, tmp_path: Path) -> None:
    (tmp_path / COSTS).write_text(text)
    assert read_costs(tmp_path / COSTS) == {}


def test_the_fixed_work_takes_time() -> None:
    assert 0 < fixed_work() < 60


def test_what_a_run_is_made_of(tmp_path: Path) -> None:
    recipe, samples = EDIT.recipe, {"images": 360 + 210, "clips": 470 + 130 + 180}
    step = 0.4 * 1.0 + 0.6 * 2.0
    found = estimated(EDIT, EVERY, tmp_path, set())
    assert found["train"] == pytest.approx(recipe.num_steps * step)
    assert found["open"] == pytest.approx(2.0 + 8_000 * 0.01 + 1_600 * 0.1)
    assert found["measure"] == pytest.approx(samples["images"] * 0.03 + samples["clips"] * 0.4)


def test_what_is_there_costs_nothing(tmp_path: Path) -> None:
    """Pools that were drawn, and steps of which there is a checkpoint."""
    note_drawn(tmp_path, [*(name for name, _, _ in pools_of(EDIT)), measured_pool(EDIT)])
    folder = tmp_path / EDIT.name / "step-0000250"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text("{}")
    assert steps_left(EDIT, tmp_path) == EDIT.recipe.num_steps - 250
    found = estimated(EDIT, EVERY, tmp_path, set())
    assert found["open"] == 2.0 and found["train"] == pytest.approx(750 * 1.6)
    assert found["measure"] == pytest.approx(570 * 0.02 + 780 * 0.3)


def test_a_shared_run_and_a_shared_pool_count_once(tmp_path: Path) -> None:
    experiments = [EXPERIMENTS["fig15"], EXPERIMENTS["tab6"]]
    every = {variant_kind(run): TIMES | STEPS for run in all_runs(SCALE, experiments)}
    both, alone = forecast(SCALE, experiments, every, tmp_path), forecast(SCALE, experiments[1:], every, tmp_path)
    assert 0 < both["tab6"] < alone["tab6"]
    assert json.dumps(both)
