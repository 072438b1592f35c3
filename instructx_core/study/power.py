"""Which difference a study of so many samples and seeds finds in four of five cases: before it runs, and after.

A difference of two variants, sample by sample, varies from sample to sample and from seed to seed. Samples are the same
for every seed, so more seeds do not stand in for more samples. Beside claims.py: an experiment that cannot see what
would matter says so before it is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

POWER = 0.8
LEVEL = 0.05  # of an experiment: shared by its comparisons


@dataclass(frozen=True, slots=True)
class Deviations:
    """Standard deviations of a difference: of one sample, and of the mean of one seed."""

    sample: float
    seed: float


# Assumed before anything is run; findings.py puts what was observed in their place. Success: three samples of ten come
# out differently under the two variants, 0.3 = 0.55 squared. Losses are natural logarithms, so 0.01 is one percent.
ASSUMED = {"success": Deviations(0.55, 0.03), "loss": Deviations(0.15, 0.02), "flicker": Deviations(0.5, 0.1)}


def detectable(spread: Deviations, samples: int, seeds: int, comparisons: int = 1) -> float:
    """The smallest true difference that is found with POWER at LEVEL, two-sided, Bonferroni over the comparisons."""
    normal = NormalDist()
    reach = normal.inv_cdf(1 - LEVEL / (2 * max(1, comparisons))) + normal.inv_cdf(POWER)
    return reach * (spread.sample**2 / max(1, samples) + spread.seed**2 / max(1, seeds)) ** 0.5


def samples_needed(spread: Deviations, difference: float, seeds: int, comparisons: int = 1) -> int | None:
    """How many samples find `difference`; None where the seeds alone vary too much for any number."""
    one = detectable(Deviations(1.0, 0.0), 1, 1, comparisons)
    left = (difference / one) ** 2 - spread.seed**2 / max(1, seeds)
    return None if left <= 0 else int(-(-(spread.sample**2) // left))
