"""The power calculation against simulated studies, judged as real ones are, and how it moves."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from instructx_core.evaluation.statistics import agreement
from instructx_core.study.claims import Comparison, Outcome
from instructx_core.study.findings import compared
from instructx_core.study.power import ASSUMED, LEVEL, POWER, Deviations, detectable, samples_needed


def test_a_difference_of_that_size_is_found_four_times_in_five() -> None:
    """Samples and seeds drawn with these deviations; a z-test at the level, of a thousand studies."""
    spread, samples, seeds = Deviations(0.5, 0.05), 200, 3
    true = detectable(spread, samples, seeds)
    rng = np.random.default_rng(0)
    means = true + rng.normal(0, spread.sample / samples**0.5, 1000) + rng.normal(0, spread.seed / seeds**0.5, 1000)
    error = (spread.sample**2 / samples + spread.seed**2 / seeds) ** 0.5
    found = float((np.abs(means) > 1.959964 * error).mean())
    assert LEVEL == 0.05 and found == pytest.approx(POWER, abs=0.04)


def test_more_samples_seeds_and_comparisons() -> None:
    spread = Deviations(0.5, 0.05)
    usual = detectable(spread, 200, 3)
    assert detectable(spread, 400, 3) < usual < detectable(spread, 200, 2)
    assert usual < detectable(spread, 200, 3, comparisons=4)
    assert detectable(spread, 10**9, 3) > 0.05 * 2.8 / 3**0.5 * 0.99  # seeds alone stay


def test_samples_needed_is_its_inverse() -> None:
    spread = Deviations(0.5, 0.02)
    need = samples_needed(spread, 0.1, 3)
    assert need is not None
    assert detectable(spread, need, 3) <= 0.1 < detectable(spread, need - 2, 3)
    assert samples_needed(Deviations(0.5, 0.2), 0.1, 3) is None


def studied(claim: Comparison, difference_SI: np.ndarray) -> Outcome:
    """The verdict on records with these differences, through the functions that judge real ones."""

    def records(value_SI: np.ndarray) -> list[list[dict[str, Any]]]:
        about = {"modality": "image", "task": "color", "area": 0.1, "appears": 0}
        return [
            [{**about, "id": str(i), "loss": math.exp(-value), "success": value > 0.5} for i, value in enumerate(row)]
            for row in value_SI.tolist()
        ]

    second_SI = np.where(difference_SI < 0, 1.0, 0.0) if claim.measure == "success" else 0.0 * difference_SI
    measured = {claim.first: records(second_SI + difference_SI), claim.second: records(second_SI)}
    return compared(claim, measured, 1).outcome


def share(claim: Comparison, wanted: Outcome, draw: Callable[[np.random.Generator], np.ndarray]) -> float:
    """Of simulated studies, those that end so."""
    rng, count = np.random.default_rng(1), 60
    return sum(studied(claim, draw(rng)) == wanted for _ in range(count)) / count


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the bootstrap: the verdicts are many."""
    monkeypatch.setattr(agreement, "DRAWS", 300)


@pytest.mark.usefixtures("few_draws")
def test_planted_losses_are_found_as_promised() -> None:
    """Three seeds, samples and seeds that vary as is assumed: none, a half, all and one and a half of what is
    promised."""
    spread, samples, seeds = ASSUMED["loss"], 360, 3
    promised = detectable(spread, samples, seeds)
    claim = Comparison(first="a", second="b", expects="better", measure="loss", smallest=0.05)

    def draw(times: float) -> Callable[[np.random.Generator], np.ndarray]:
        def one(rng: np.random.Generator) -> np.ndarray:
            by_sample = rng.normal(0, spread.sample, samples)
            return times * promised + by_sample + rng.normal(0, spread.seed, (seeds, 1))

        return one

    none, half, whole, more = (share(claim, "agree", draw(times)) for times in (0, 0.5, 1, 1.5))
    assert none <= 0.1 < half < 0.6 and whole >= POWER - 0.1 and more >= 0.95
    assert share(claim, "disagree", draw(1.5)) <= 0.05


@pytest.mark.usefixtures("few_draws")
def test_what_is_alike_is_called_so_and_what_matters_is_not() -> None:
    """Edits that succeed under one variant alone: three of ten samples, as is assumed of success."""
    claim = Comparison(first="a", second="b", expects="same", measure="success", smallest=0.12)

    def draw(true: float) -> Callable[[np.random.Generator], np.ndarray]:
        def one(rng: np.random.Generator) -> np.ndarray:
            chance = rng.random(300)
            won, lost = chance < (0.3 + true) / 2, chance > 1 - (0.3 - true) / 2
            return np.tile(won.astype(float) - lost.astype(float), (2, 1))

        return one

    assert share(claim, "agree", draw(0.0)) >= POWER - 0.05
    assert share(claim, "agree", draw(0.12)) <= 0.1
    assert share(claim, "disagree", draw(0.24)) >= 0.95


@pytest.mark.usefixtures("few_draws")
def test_a_study_that_is_too_small_names_no_winner() -> None:
    """A tenth of the samples: a difference that matters is neither found nor denied."""
    claim = Comparison(first="a", second="b", expects="better", measure="loss", smallest=0.05)
    spread = ASSUMED["loss"]

    def draw(rng: np.random.Generator) -> np.ndarray:
        return 0.05 + rng.normal(0, spread.sample, 12) + rng.normal(0, spread.seed, (2, 1))

    assert share(claim, "cannot tell", draw) >= 0.5 and share(claim, "disagree", draw) <= 0.1
