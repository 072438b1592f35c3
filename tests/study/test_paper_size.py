"""`--scale paper` without weights: runs are built, counted and costed.

Here those of two experiments, which have all designs and both modalities: all of them take a quarter of an hour, which
is what the command is for. test_builds.py builds every variant of every experiment.
"""

from __future__ import annotations

import pytest

from instructx_core.costs.cards import find_card
from instructx_core.study.experiments import EXPERIMENTS
from instructx_core.study.paper_size import TriedRun, tried_lines, try_runs
from instructx_core.study.scales import PAPER
from instructx_core.study.schedule import Run, all_runs

pytestmark = pytest.mark.slow
TRIED = ("fig4_left", "tab5")
CONNECTORS = {"queries": 36_710_400, "metaquery": 1_647_431_680, "qformer": 115_169_792, "t5": 0}


@pytest.fixture(scope="module")
def tried() -> dict[str, TriedRun]:
    found = try_runs(PAPER, [EXPERIMENTS[name] for name in TRIED], find_card("h100"), 8)
    return {each.run.name: each for each in found}


def runs(name: str) -> list[Run]:
    return all_runs(PAPER, [EXPERIMENTS[name]])


@pytest.mark.parametrize("name", TRIED)
def test_an_experiment(name: str, tried: dict[str, TriedRun]) -> None:
    """All of its runs; each in hours, on cards that hold it; half the length is half the hours."""
    for run in runs(name):
        found = tried[run.name]
        assert 0 < found.trained < 20e9 and 3e9 < found.encoder < 7e9 and found.hours > 100
        assert found.bytes is None or found.bytes < 80 * 2**30
        usual = not {key for key in run.recipe.model if key.startswith("design.")}
        assert not usual or found.connector == CONNECTORS[run.recipe.design]
    if name == "tab5":
        whole, half = ([tried[r.name] for r in runs(name) if r.recipe.num_steps == n] for n in (10_000, 5_000))
        assert sorted(each.hours for each in half) == pytest.approx(sorted(each.hours / 2 for each in whole))


def test_what_the_alignment_trains(tried: dict[str, TriedRun]) -> None:
    """Queries of images and the connector; LoRA in the paper's own design alone."""
    trained = {run.recipe.design: tried[run.name].trained for run in runs("fig4_left")}
    images = 256 * 2048
    assert trained["metaquery"] == CONNECTORS["metaquery"] + images
    assert trained["qformer"] == CONNECTORS["qformer"]
    assert trained["queries"] > CONNECTORS["queries"] + images + 4e8


def test_the_lines(tried: dict[str, TriedRun]) -> None:
    text = "\n".join(tried_lines(list(tried.values()), find_card("h100"), 8))
    assert all(name in text for name in tried) and "1.647 B" in text and "not measured" in text
