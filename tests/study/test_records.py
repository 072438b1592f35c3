"""records.json: whole or not there; what is damaged, of another run or of another code is told, not mixed in."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from planted_records import plant
from safetensors.torch import save_file

from instructx_core.errors import InputError
from instructx_core.study.cost import COST, cost_of_experiments
from instructx_core.study.experiments import EXPERIMENTS
from instructx_core.study.findings import finding_of
from instructx_core.study.records import (
    RECORDS,
    is_measured,
    measured_records,
    mixed_origins,
    processor,
    provenance,
    write_whole,
)
from instructx_core.study.scales import REHEARSAL
from instructx_core.study.schedule import all_runs
from instructx_core.training.trainer import FINAL

TAB6 = EXPERIMENTS["tab6"]
RUN = next(run for run in all_runs(REHEARSAL, [TAB6]) if run.measured)


def planted(output: Path, **changes: Any) -> Path:
    plant(REHEARSAL, TAB6, output)
    path = output / RUN.name / RECORDS
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


def test_a_run_is_done_when_its_weights_and_its_records_are_there(tmp_path: Path) -> None:
    planted(tmp_path)
    assert measured_records(RUN, tmp_path) is not None and not is_measured(RUN, tmp_path)
    about = {"recipe": json.dumps(RUN.recipe.as_json())}
    save_file({"a": torch.zeros(1)}, tmp_path / RUN.name / FINAL, about)
    assert is_measured(RUN, tmp_path)
    (tmp_path / RUN.name / RECORDS).unlink()
    assert not is_measured(RUN, tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"records": [', "[]", "null", '{"samples": {}}', '{"samples": {}, "recipe": {}, "records": [1]}'],
)
def test_damaged_records_are_told(text: str, tmp_path: Path) -> None:
    planted(tmp_path).write_text(text)
    with pytest.raises(InputError, match=r"records\.json is damaged .*remove it"):
        finding_of(REHEARSAL, TAB6, tmp_path)


def test_records_of_other_settings_are_refused(tmp_path: Path) -> None:
    """A folder that was copied, or whose recipe was changed by hand."""
    planted(tmp_path, recipe=RUN.recipe.as_json() | {"seed": 7, "learning_rate": 1.0})
    with pytest.raises(InputError, match="of a run with another learning_rate, seed"):
        finding_of(REHEARSAL, TAB6, tmp_path)


def test_records_of_other_samples_are_not_used(tmp_path: Path) -> None:
    planted(tmp_path, samples={"images": 1, "clips": 1})
    assert finding_of(REHEARSAL, TAB6, tmp_path).missing == (RUN.name,)


def test_records_of_another_code_are_told(tmp_path: Path) -> None:
    planted(tmp_path, commit="abc")
    sources = finding_of(REHEARSAL, TAB6, tmp_path).sources
    assert mixed_origins(sources) == {"commit": sorted(["abc", "planted"])}
    assert mixed_origins(sources[:1]) == {}


def test_where_a_number_comes_from() -> None:
    assert all(provenance()[name] for name in ("commit", "version", "torch", "python", "processor"))
    assert torch.backends.cpu.get_cpu_capability() in processor()


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / RECORDS
    write_whole(path, {"a": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(InputError, match="free some space"):
            write_whole(path, {"a": "x" * 100_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert json.loads(path.read_text()) == {"a": 1} and len(list(tmp_path.iterdir())) == 1


def test_what_runs_took_over_what_was_estimated(tmp_path: Path) -> None:
    """Of a run that two experiments share, once."""
    for run in all_runs(REHEARSAL, [TAB6]):
        seconds = {"open": 36.0, "train": 360.0, "measure": 0.0}
        (tmp_path / run.name).mkdir()
        twice = {name: 1.5 * value for name, value in seconds.items()}
        (tmp_path / run.name / COST).write_text(json.dumps({"estimate": seconds, "cpu_seconds": twice}))
    found = cost_of_experiments(REHEARSAL, [TAB6, EXPERIMENTS["fig9b"]], tmp_path)
    assert found == {"tab6": {"runs": 4, "estimate": 0.44, "taken": 0.66, "ratio": 1.5}}
    (tmp_path / RUN.name / COST).write_text("{")
    with pytest.raises(InputError, match=r"cost\.json is damaged"):
        cost_of_experiments(REHEARSAL, [TAB6], tmp_path)
