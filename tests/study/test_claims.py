"""Verdicts on planted results: each rule, at both of its edges."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from instructx_core.evaluation.statistics.intervals import Estimate
from instructx_core.study.claims import Comparison, Outcome, joint_verdict, outcome

BETTER = Comparison(first="a", second="b", expects="better", measure="success", smallest=0.1)
SAME = dataclasses.replace(BETTER, expects="same")
OPEN = dataclasses.replace(BETTER, expects="open")


def between(low: float, high: float) -> Estimate:
    return Estimate((low + high) / 2, low, high, 100)


@pytest.mark.parametrize(
    ("comparison", "interval", "by_seed", "wanted"),
    [
        (BETTER, (0.02, 0.2), (0.1, 0.12, 0.05), "agree"),
        (BETTER, (0.01, 0.05), (0.02, 0.03, 0.04), "agree"),  # small, but there
        (BETTER, (0.02, 0.2), (0.3, 0.12, -0.01), "cannot tell"),  # one seed is against it
        (BETTER, (0.0, 0.2), (0.1, 0.1, 0.1), "cannot tell"),
        (BETTER, (-0.05, 0.2), (0.1, 0.1, 0.1), "cannot tell"),
        (BETTER, (-0.05, 0.09), (0.01, 0.02, 0.03), "disagree"),  # whatever there is does not matter
        (BETTER, (-0.05, 0.1), (0.01, 0.02, 0.03), "cannot tell"),
        (BETTER, (-0.3, -0.1), (-0.2, -0.2, -0.2), "disagree"),
        (SAME, (-0.09, 0.09), (0.0, 0.0), "agree"),
        (SAME, (-0.1, 0.09), (0.0, 0.0), "cannot tell"),
        (SAME, (-0.3, 0.3), (0.0, 0.0), "cannot tell"),
        (SAME, (0.02, 0.3), (0.1, 0.1), "disagree"),
        (SAME, (-0.3, -0.02), (-0.1, -0.1), "disagree"),
        (SAME, (0.02, 0.09), (0.05, 0.05), "agree"),  # there, and too small to matter
        (OPEN, (0.2, 0.3), (0.2, 0.2), "cannot tell"),
    ],
)
def test_outcome(comparison: Comparison, interval: Any, by_seed: Any, wanted: Outcome) -> None:
    assert outcome(comparison, between(*interval), by_seed) == wanted


def test_without_an_interval_nothing_is_said() -> None:
    assert outcome(BETTER, None, ()) == "cannot tell"
    assert outcome(BETTER, Estimate(0.5, None, None, 9), (0.5,)) == "cannot tell"


@pytest.mark.parametrize(
    ("outcomes", "wanted"),
    [
        (("agree", "agree"), "agree"),
        (("agree", "cannot tell"), "cannot tell"),
        (("agree", "disagree", "cannot tell"), "disagree"),
        ((), "cannot tell"),
    ],
)
def test_verdict(outcomes: tuple[Outcome, ...], wanted: Outcome) -> None:
    assert joint_verdict(outcomes) == wanted
