"""The queue on a Ray cluster of this machine: the records of the plain loop, and a worker that is lost."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from local_ray import local_ray
from safetensors.torch import save_file

from instructx_core.errors import InputError
from instructx_core.study import cluster
from instructx_core.study.cluster import running, study_on_ray
from instructx_core.study.experiments import EXPERIMENTS
from instructx_core.study.queue import take_runs
from instructx_core.study.records import RECORDS, is_measured
from instructx_core.study.running import Workplace
from instructx_core.study.scales import REHEARSAL
from instructx_core.study.schedule import all_runs
from instructx_core.study.start import make_start
from instructx_core.training.machine import Machine
from instructx_core.training.trainer import FINAL

LEAST = dataclasses.replace(
    REHEARSAL, align=REHEARSAL.align | {"num_steps": 2, "save_every": 2}, images=2, clips=0, seeds=1
)
RUNS = all_runs(LEAST, [EXPERIMENTS["fig4_left"]])[:2]


def records_of(output: Path, name: str) -> Any:
    found = json.loads((output / name / RECORDS).read_text())
    return found["records"], found["recipe"], found["flops"]


@pytest.mark.slow
def test_ray_gives_the_records_of_the_plain_loop(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "plain", tmp_path / "ray"
    assert make_start(LEAST, ours, Machine())
    shutil.copytree(ours, theirs)
    assert take_runs(RUNS, Workplace(ours, Machine()))
    with local_ray():
        assert study_on_ray(RUNS, Workplace(theirs, Machine()), workers=1)
    for run in RUNS:
        assert is_measured(run, theirs) and records_of(ours, run.name) == records_of(theirs, run.name)


def test_first_stages_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what another command has makes the whole incomplete."""
    batches = list[list[str]]()

    def spread(rows: list[str], make: Any, workers: int | None) -> list[str]:
        batches.append(rows)
        return ["done"] * len(rows)

    monkeypatch.setattr(cluster, "spread", spread)
    runs = all_runs(REHEARSAL, [EXPERIMENTS["fig4_right"]])
    assert study_on_ray(runs, Workplace(tmp_path, Machine()))
    first, second = batches
    assert set(first) == {run.name for run in runs if run.before is None}
    assert set(second) == {run.name for run in runs if run.before in first}
    monkeypatch.setattr(cluster, "spread", lambda rows, make, workers: ["taken"])
    assert not study_on_ray(runs, Workplace(tmp_path, Machine()))


def test_a_worker_says_what_is_wrong(tmp_path: Path) -> None:
    """Records that are damaged, before anything is loaded."""
    run = next(run for run in RUNS if run.measured)
    (tmp_path / run.name).mkdir()
    save_file({"a": torch.zeros(1)}, tmp_path / run.name / FINAL, {"recipe": json.dumps(run.recipe.as_json())})
    (tmp_path / run.name / RECORDS).write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        running(RUNS, Workplace(tmp_path, Machine()), threads=torch.get_num_threads())(run.name)
