"""What the paper says of two variants, and whether measured differences agree with it: pure functions.

Between experiments.py, which says what is compared, and findings.py, which measures the differences. A difference is
counted so that more is better for the first variant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..evaluation.statistics.intervals import Estimate

Outcome = Literal["agree", "disagree", "cannot tell"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """first, second: names of variants. expects: of `first` against `second`, as the paper says; "open": it does not.

    measure: one of measures.py. smallest: the least difference that would matter, in its unit. group: of which
    samples (measures.py::GROUPS).
    """

    first: str
    second: str
    expects: Literal["better", "same", "open"]
    measure: str
    smallest: float
    group: str = "all"


def outcome(comparison: Comparison, difference: Estimate | None, by_seed: Sequence[float]) -> Outcome:
    """difference: with its interval. by_seed: the mean difference of each seed.

    "better" agrees where the interval lies above zero and every seed does, and disagrees where it lies below what would
    matter. "same" agrees where the interval lies within what would matter, and disagrees where it excludes zero and
    some of it matters. All else, and no interval at all, cannot tell.
    """
    if difference is None or difference.low is None or difference.high is None or comparison.expects == "open":
        return "cannot tell"
    low, high, matters = difference.low, difference.high, comparison.smallest
    if comparison.expects == "better":
        if low > 0 and min(by_seed) > 0:
            return "agree"
        return "disagree" if high < matters and not low > 0 else "cannot tell"
    if -matters < low and high < matters:
        return "agree"
    return "disagree" if low > 0 or high < 0 else "cannot tell"


def joint_verdict(outcomes: Sequence[Outcome]) -> Outcome:
    """Of a claim that several comparisons make together: one that disagrees settles it, all must agree."""
    if "disagree" in outcomes:
        return "disagree"
    return "agree" if outcomes and all(each == "agree" for each in outcomes) else "cannot tell"
