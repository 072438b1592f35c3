"""Is one editor better than another: differences item by item, with an interval and a p-value.

Place: scores -> cells -> paired -> report. Editors are compared on the items that both have a score of; the others are
counted. The p-value is of a permutation test that swaps the two editors item by item (exact for few items), two-sided;
of several pairs of editors Holm's correction keeps the chance of one false find below the level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from .intervals import SEED, Estimate, mean_interval

PERMUTATIONS = 9999
LEAST_ITEMS = 2


@dataclass(frozen=True, slots=True)
class Difference:
    """How much `first` scores above `second` on the items of both; difference: None where there is no such item, p
    where there are fewer than two.

    p_holm: the p-value corrected for all pairs that were compared. only_first, only_second: items left out.
    """

    first: str
    second: str
    difference: Estimate | None
    p: float | None
    p_holm: float | None
    only_first: int = 0
    only_second: int = 0


def permutation_p(difference_N: Sequence[float]) -> float | None:
    """Two-sided p-value of paired differences being none on average; None for fewer than two items."""
    from scipy import stats

    values = np.asarray(difference_N, dtype=np.float64)
    if values.size < LEAST_ITEMS:
        return None
    if not values.any():
        return 1.0

    def mean(sample: np.ndarray, axis: int = -1) -> Any:
        return sample.mean(axis=axis)

    found = stats.permutation_test(
        (values,),
        mean,
        permutation_type="samples",  # of one sample: the signs are drawn
        n_resamples=PERMUTATIONS,
        vectorized=True,
        random_state=np.random.default_rng(SEED),
    )
    return float(found.pvalue)


def holm(p_N: Sequence[float]) -> list[float]:
    """Holm's corrected p-values, in the order given."""
    order = np.argsort(p_N, kind="stable")
    scaled = np.maximum.accumulate(np.asarray(p_N)[order] * (len(p_N) - np.arange(len(p_N))))
    corrected = np.empty(len(p_N))
    corrected[order] = np.minimum(scaled, 1.0)
    return corrected.tolist()


def differences(scores: Mapping[str, Mapping[str, float]], method: str = "percentile") -> list[Difference]:
    """Every pair of editors. scores: editor -> item -> score."""
    found: list[Difference] = []
    for first, second in combinations(scores, 2):
        common = [item for item in scores[first] if item in scores[second]]
        values = [scores[first][item] - scores[second][item] for item in common]
        alone = len(scores[first]) - len(common), len(scores[second]) - len(common)
        difference = mean_interval(values, method) if values else None
        found.append(Difference(first, second, difference, permutation_p(values), None, *alone))
    tested = [each for each in found if each.p is not None]
    corrected = dict(zip((id(each) for each in tested), holm([each.p or 0.0 for each in tested]), strict=True))
    return [_with_holm(each, corrected.get(id(each))) for each in found]


def _with_holm(each: Difference, p_holm: float | None) -> Difference:
    return Difference(each.first, each.second, each.difference, each.p, p_holm, each.only_first, each.only_second)
