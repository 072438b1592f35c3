"""The power calculation against simulation, and how it moves."""

from __future__ import annotations

import numpy as np
import pytest

from instructx_core.study.power import LEVEL, POWER, Deviations, detectable, samples_needed


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
