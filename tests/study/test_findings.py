"""Planted records -> differences, intervals and verdicts; groups of samples; what cannot be told is not told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from instructx_core.study.claims import Comparison
from instructx_core.study.experiments import OURS, T5, Experiment, better, same
from instructx_core.study.findings import compared, judged_finding, planned, spread_of
from instructx_core.study.measures import GROUPS
from instructx_core.study.scales import TINY

RECORD = {"modality": "image", "task": "color", "area": 0.1, "appears": 0}


def records(rate: float, seed: int, count: int = 300) -> list[list[dict[str, Any]]]:
    """Three seeds of samples that succeed that often; the hard ones are the same for all."""
    hard_I = np.random.default_rng(1).random(count)
    noise = np.random.default_rng(seed)
    return [
        [
            {**RECORD, "id": f"image {i}", "success": bool(hard_I[i] + noise.normal(0, 0.1) < rate), "loss": 1.0 / rate}
            for i in range(count)
        ]
        for _ in range(3)
    ]


def experiment(comparisons: tuple[Comparison, ...]) -> Experiment:
    return Experiment(name="x", where="", title="", sentence="s", variants=(OURS, T5), comparisons=comparisons, seeds=3)


CLAIM = better(OURS, T5, measure="success", smallest=0.1, group="image")


@pytest.mark.parametrize(
    ("ours", "others", "wanted"), [(0.8, 0.5, "agree"), (0.5, 0.8, "disagree"), (0.6, 0.6, "disagree")]
)
def test_planted_differences(ours: float, others: float, wanted: str) -> None:
    found = judged_finding(experiment(CLAIM), {"InstructX": records(ours, 2), "T5": records(others, 3)})
    (difference,) = found.differences
    assert found.verdict == wanted and difference.samples == 300 and len(difference.by_seed) == 3
    assert difference.estimate is not None
    assert difference.estimate.mean == pytest.approx(ours - others, abs=0.05)
    assert found.values["T5"]["success, image"].mean == pytest.approx(others, abs=0.06)


def test_few_samples_cannot_tell() -> None:
    found = judged_finding(experiment(CLAIM), {"InstructX": records(0.6, 2, 12), "T5": records(0.55, 3, 12)})
    assert found.verdict == "cannot tell" and found.differences[0].detectable > 0.1


def test_alike() -> None:
    claim = same(OURS, T5, group="image")
    assert judged_finding(experiment(claim), {"InstructX": records(0.6, 2), "T5": records(0.61, 3)}).verdict == "agree"


def test_losses_are_compared_as_logarithms() -> None:
    claim = better(OURS, T5, measure="loss", smallest=0.05, group="image")[0]
    found = compared(claim, {"InstructX": records(0.8, 2), "T5": records(0.4, 3)}, 1)
    assert found.estimate is not None and found.estimate.mean == pytest.approx(np.log(2))


def test_a_group_without_samples() -> None:
    claim = better(OURS, T5, measure="success", smallest=0.1, group="zero-shot clips")
    found = judged_finding(experiment(claim), {"InstructX": records(0.9, 2), "T5": records(0.1, 3)})
    assert found.verdict == "cannot tell" and found.differences[0].estimate is None


@pytest.mark.parametrize(
    ("change", "groups"),
    [
        ({}, {"all", "image"}),
        ({"area": 0.01}, {"all", "image", "small objects"}),
        ({"modality": "video"}, {"all", "video", "there from the start"}),
        ({"modality": "video", "appears": 6}, {"all", "video", "appears in the middle"}),
        ({"modality": "video", "task": "style"}, {"zero-shot clips", "there from the start"}),
    ],
)
def test_groups(change: dict[str, Any], groups: set[str]) -> None:
    assert {name for name, chosen in GROUPS.items() if chosen(RECORD | change)} == groups


def test_spread() -> None:
    table_SI = np.array([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert spread_of(table_SI).seed == 0 and spread_of(table_SI).sample == pytest.approx(0.5**0.5)
    assert spread_of(table_SI[:1]).seed == float("inf")


def test_what_is_planned_is_written_down() -> None:
    claim = better(OURS, T5, measure="success", smallest=0.12, group="image")
    ((comparison, reach),) = planned(TINY, experiment(claim))
    assert comparison is claim[0] and 0.05 < reach < 0.12
