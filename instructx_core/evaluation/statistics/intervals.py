"""Means with intervals: the bootstrap over items, seeded, so that the same scores give the same interval everywhere.

Place: scores -> cells -> intervals -> tables. Percentile or BCa (bias-corrected and accelerated) ones, by
scipy.stats.bootstrap. Of a mean over groups, items are drawn within each group: the benchmark fixes the groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import InputError

DRAWS = 4000
SEED = 0
METHODS = ("percentile", "bca")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over `count` items with its interval; low and high are None where one item or none says nothing of it."""

    mean: float
    low: float | None
    high: float | None
    count: int

    def __str__(self) -> str:
        between = "" if self.low is None or self.high is None else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.mean:.3f}{between}"


def _checked(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise InputError("no values to average; give at least one")
    if not np.isfinite(array).all():
        raise InputError(f"values to average hold {array[~np.isfinite(array)][0]}; all must be finite")
    return array


def mean_interval(values: Sequence[float], method: str = "percentile", confidence: float = 0.95) -> Estimate:
    """The mean of one value an item. Raises InputError for no values, for one that is no number, for another method."""
    return mean_of_groups([values], method, confidence)


def mean_of_groups(groups: Sequence[Sequence[float]], method: str = "percentile", confidence: float = 0.95) -> Estimate:
    """The mean of the groups' means, each group weighing the same. Raises InputError as mean_interval."""
    if method not in METHODS:
        raise InputError(f"interval {method!r}; use one of {', '.join(METHODS)}")
    if not groups:
        raise InputError("no group to average; give at least one")
    arrays = [_checked(values) for values in groups]
    mean, count = float(np.mean([array.mean() for array in arrays])), sum(array.size for array in arrays)
    if min(array.size for array in arrays) < 2:  # a group of one item would look certain
        return Estimate(mean, None, None, count)
    if all((array == array[0]).all() for array in arrays):  # BCa divides by their spread
        return Estimate(mean, mean, mean, count)
    low, high = _bootstrap(arrays, method, confidence)
    return Estimate(mean, low, high, count)


def _bootstrap(arrays: list[np.ndarray], method: str, confidence: float) -> tuple[float, float]:
    from scipy import stats

    def mean_of_means(*samples: np.ndarray, axis: int = -1) -> Any:
        return np.mean([sample.mean(axis=axis) for sample in samples], axis=0)

    found = stats.bootstrap(
        arrays,
        mean_of_means,
        n_resamples=DRAWS,
        confidence_level=confidence,
        method="BCa" if method == "bca" else "percentile",
        vectorized=True,
        random_state=np.random.default_rng(SEED),
    ).confidence_interval
    return float(found.low), float(found.high)
