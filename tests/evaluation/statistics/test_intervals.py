"""Intervals hold the truth as often as they say, differences are found where they are, Holm is Holm."""

from __future__ import annotations

import math

import numpy as np
import pytest

from instructx_core.errors import InputError
from instructx_core.evaluation.statistics.intervals import METHODS, mean_interval, mean_of_groups
from instructx_core.evaluation.statistics.paired import differences, holm, permutation_p


@pytest.mark.parametrize("method", METHODS)
def test_intervals_hold_the_truth_as_often_as_they_say(method: str) -> None:
    rng, held = np.random.default_rng(3), 0
    for _ in range(30):
        found = mean_interval(rng.normal(5.0, 2.0, 40).tolist(), method)
        assert found.low is not None and found.high is not None and found.low < found.mean < found.high
        held += found.low <= 5.0 <= found.high
    assert 26 <= held <= 30, "of 30 intervals of 95 %, 28 or 29 are expected to hold"


def test_the_interval_is_that_of_the_normal_approximation_and_seeded() -> None:
    values = np.random.default_rng(0).normal(3.0, 1.0, 400).tolist()
    found = mean_interval(values)
    half = 1.96 * np.std(values, ddof=1) / math.sqrt(400)
    assert found.low == pytest.approx(found.mean - half, abs=0.015) and mean_interval(values) == found
    assert mean_interval(values, confidence=0.5).low > found.low


def test_a_mean_of_groups_weighs_each_group_the_same() -> None:
    small, large = [1.0, 3.0], [5.0] * 50 + [7.0] * 50
    found = mean_of_groups([small, large])
    assert found.mean == 4.0 and found.count == 102
    assert found.high - found.low == pytest.approx((mean_interval(small).high - mean_interval(small).low) / 2, rel=0.15)


def test_what_cannot_be_said_is_not_said() -> None:
    assert mean_interval([4.0]).low is None and mean_of_groups([[1.0], [2.0, 4.0]]).high is None
    assert mean_interval([2.0, 2.0, 2.0], "bca").low == 2.0
    for values in ([], [1.0, math.nan], [[1.0]]):
        with pytest.raises(InputError):
            mean_interval(values)
    with pytest.raises(InputError, match="percentile, bca"):
        mean_interval([1.0, 2.0], "normal")


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0]) and holm([]) == []


def test_permutation_p_is_exact_for_few_items() -> None:
    assert permutation_p([1.0, 1.0, 1.0, 1.0]) == pytest.approx(2 / 16), "two of sixteen choices of signs are as far"
    assert permutation_p([1.0, -1.0, 0.0]) == 1.0 and permutation_p([0.0, 0.0]) == 1.0 and permutation_p([2.0]) is None


def test_a_better_editor_is_found_and_an_equal_one_is_not() -> None:
    rng = np.random.default_rng(1)
    hard = rng.normal(0.0, 2.0, 60)  # what is hard for one editor is hard for all: pairing takes that out
    scores = {
        name: {f"i{k}": float(7.0 + gain + hard[k] + noise) for k, noise in enumerate(rng.normal(0.0, 0.5, 60))}
        for name, gain in (("good", 0.5), ("plain", 0.0), ("same", 0.0))
    }
    del scores["same"]["i0"], scores["plain"]["i5"]
    good, same, equal = differences(scores)
    assert (good.first, good.second, good.only_first, good.only_second) == ("good", "plain", 1, 0)
    assert (
        good.difference is not None
        and good.difference.low is not None
        and good.difference.low > 0.2
        and good.p_holm is not None
    )
    assert good.p is not None and good.p < good.p_holm < 0.01 and same.p_holm is not None and same.p_holm < 0.01
    assert equal.p is not None and equal.p > 0.05 and (equal.only_first, equal.only_second) == (1, 1)
    # Unpaired, the spread of the items would hide it.
    spread = mean_interval(list(scores["good"].values()))
    assert spread.high - spread.low > 2 * (good.difference.high - good.difference.low)
    (apart,) = differences({"a": {"x": 1.0}, "b": {"y": 1.0}})
    assert (apart.difference, apart.p, apart.p_holm, apart.only_first, apart.only_second) == (None, None, None, 1, 1)
