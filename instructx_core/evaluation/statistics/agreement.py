"""How far raters agree: Krippendorff's alpha of ordinal scores, and intervals of means over raters and items at once.

Place: unblinded ratings -> agreement -> the study's result; also how far repeated judgements of one judge agree. Alpha
is 1 where all agree, 0 where they agree as by chance, below 0 where they contradict each other.
Shapes: score_RU of R raters and U things that they rated, NaN where a rater gave none.
"""

from __future__ import annotations

import numpy as np

from .intervals import DRAWS, SEED, Estimate

ALPHA_DRAWS = 400


def alpha(score_RU: np.ndarray) -> Estimate | None:
    """Alpha with its interval over the rated things; None where it is not defined: no two ratings of one thing, or
    the same score everywhere."""
    import krippendorff

    score_RU = score_RU[:, np.isfinite(score_RU).sum(axis=0) >= 2]
    domain = np.unique(score_RU[np.isfinite(score_RU)])
    units = score_RU.shape[1]
    if len(domain) < 2:
        return None
    counts_UV = (score_RU[:, :, None] == domain).sum(axis=0)

    def of(rows_UV: np.ndarray) -> float:
        return krippendorff.alpha(value_counts=rows_UV, value_domain=domain.tolist(), level_of_measurement="ordinal")

    rng, drawn = np.random.default_rng(SEED), []
    for _ in range(ALPHA_DRAWS):
        rows_UV = counts_UV[rng.integers(units, size=units)]
        if (rows_UV.sum(axis=0) > 0).sum() >= 2:
            drawn.append(of(rows_UV))
    low, high = np.percentile(drawn, (2.5, 97.5)) if units > 1 and drawn else (None, None)
    return Estimate(
        float(of(counts_UV)), None if low is None else float(low), None if high is None else float(high), units
    )


def crossed_interval(score_RI: np.ndarray, confidence: float = 0.95) -> Estimate | None:
    """The mean of all ratings, its interval over other raters and other items: both are drawn. None without a rating.

    Raters who are strict and items that are hard make ratings depend on each other; one bootstrap over all ratings
    would give an interval that is too narrow.
    """
    held_RI = np.isfinite(score_RI)
    if not held_RI.any():
        return None
    filled_RI = np.where(held_RI, score_RI, 0.0)
    raters, items = score_RI.shape
    mean, count = float(filled_RI.sum() / held_RI.sum()), int(held_RI.sum())
    if raters < 2 or items < 2:
        return Estimate(mean, None, None, count)
    rng = np.random.default_rng(SEED)
    weight_DR = rng.multinomial(raters, np.full(raters, 1.0 / raters), size=DRAWS).astype(np.float64)
    weight_DI = rng.multinomial(items, np.full(items, 1.0 / items), size=DRAWS).astype(np.float64)
    sums_D = ((weight_DR @ filled_RI) * weight_DI).sum(axis=1)
    counts_D = ((weight_DR @ held_RI) * weight_DI).sum(axis=1)
    means_D = sums_D[counts_D > 0] / counts_D[counts_D > 0]
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(means_D, (tail, 100.0 - tail))
    return Estimate(mean, float(low), float(high), count)
