"""Every experiment from its start to its verdict, in steps and samples as few as can be: does all of it run?"""

from __future__ import annotations

import dataclasses
import json

import pytest

from instructx_core.study.experiments import EXPERIMENTS
from instructx_core.study.findings import finding_of
from instructx_core.study.queue import take_runs
from instructx_core.study.records import RECORDS
from instructx_core.study.running import Workplace
from instructx_core.study.scales import REHEARSAL
from instructx_core.study.schedule import all_runs
from instructx_core.study.start import make_start
from instructx_core.training.machine import Machine

pytestmark = pytest.mark.slow
STEPS = {"num_steps": 2, "save_every": 2}
FEWEST = {"images": 1, "clips": 1, "extra": dict.fromkeys(REHEARSAL.extra, 1)}  # clips take most of the time
LEAST = dataclasses.replace(REHEARSAL, align=REHEARSAL.align | STEPS, edit=REHEARSAL.edit | STEPS, seeds=1, **FEWEST)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """With a start; runs that experiments share are done once."""
    found = Workplace(tmp_path_factory.mktemp("study") / "runs", Machine())
    assert make_start(LEAST, found.output, found.machine)
    return found


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_runs(name: str, place: Workplace) -> None:
    experiment = EXPERIMENTS[name]
    runs = all_runs(LEAST, [experiment])
    assert take_runs(runs, place)
    finding = finding_of(LEAST, experiment, place.output)
    assert not finding.missing and len(finding.differences) == len(experiment.comparisons)
    for run in runs:
        if run.measured:
            found = json.loads((place.output / run.name / RECORDS).read_text())
            modalities = {"image"} if run.stage == "align" else {"image", "video"}
            assert {record["modality"] for record in found["records"]} == modalities
            share = run.recipe.video_probability
            drawn = {name for name, there in (("image", share < 1), ("video", share > 0)) if there}
            assert set(found["flops"]) == drawn and all(each > 0 for each in found["flops"].values())
