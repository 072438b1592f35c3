"""How far a judge can be trusted: its scores of planted edits against their known order.

Place: cases -> judge -> scores -> check -> judge-check.json -> report. Pairwise accuracy (a tie counts half, so that
who says nothing is at one half) and rank correlation by dimension, over sources; how alike repeated scores of one
output are; two biases: does the judge see which picture is which (the same two pictures swapped must score lower in
instruction), and does a longer wording of the same instruction change its scores.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ..objects import REWRITE, read_object
from ..scores import Score
from ..statistics.intervals import Estimate, mean_interval
from ..statistics.paired import permutation_p
from .planted import CHAINS

WITHOUT_PAIRS = {  # dimension -> what has pairs of it
    "similarity": "give --sources 4 or more, or --records with reference pictures",
    "preservation": "give --sources, or --records with masks",
}
SWAPPED, LONGER = "swapped", "longer"  # of the right edit: source and output changed places; the instruction padded
Scores = Mapping[str, Mapping[str, float]]  # plant -> dimension -> score


@dataclass(frozen=True, slots=True)
class Ordering:
    """Of one dimension. accuracy: share of pairs in order, None without a pair. correlation: mean Spearman's of chains
    of three and more. tied: pairs with equal scores."""

    accuracy: float | None
    low: float | None
    high: float | None
    correlation: float | None
    pairs: int
    tied: int


@dataclass(frozen=True, slots=True)
class JudgeCheck:
    """What a report shows of a judge.

    equal: share of repeated scores that are the same; spread: their mean standard deviation; None without repeats.
    swapped: as accuracy, of the right edit over the same pictures swapped. longer: mean change of the overall score
    by a longer wording, with its p-value. lost: cases without a score, by status.
    """

    judge: str
    sources: int
    dimensions: dict[str, Ordering]
    means: dict[str, dict[str, float]]  # plant -> dimension -> mean score
    equal: float | None
    spread: float | None
    swapped: Ordering
    longer: Estimate | None
    longer_p: float | None
    lost: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def text(self) -> str:
        """Markdown."""
        lines = [
            f"Judge {self.judge}, planted edits of {self.sources} sources.",
            "",
            "| Dimension | Pairs in order | 95 % interval | Rank correlation | Pairs | Tied |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        lines += [_line(name, of) for name, of in {**self.dimensions, "source or output": self.swapped}.items()]
        for name, of in self.dimensions.items():
            lines += ["", f"{unchecked(name)[:1].upper()}{unchecked(name)[1:]}."] if of.pairs == 0 else []
        if self.equal is not None:
            lines += ["", f"Repeated scores are equal in {100 * self.equal:.0f} %, their spread is {self.spread:.2f}."]
        if self.longer is not None:
            p = "" if self.longer_p is None else f", p = {self.longer_p:.3f}"
            lines += ["", f"A longer wording of the same instruction changes the mean score by {self.longer}{p}."]
        if self.lost:
            lines += ["", f"Without a score: {', '.join(f'{count} {name}' for name, count in self.lost.items())}."]
        return "\n".join(lines)


def unchecked(dimension: str) -> str:
    """Says that a dimension has no pair, and what to do about it."""
    remedy = WITHOUT_PAIRS.get(dimension, "see why these cases have no score")
    return f"{dimension} was not checked, as there are no pairs of planted edits with scores of it: {remedy}"


def _line(name: str, of: Ordering) -> str:
    if of.accuracy is None:
        return f"| {name} | - | - | - | 0 | 0 |"
    between = "-" if of.low is None or of.high is None else f"{100 * of.low:.0f} to {100 * of.high:.0f}"
    correlation = "-" if of.correlation is None else f"{of.correlation:.2f}"
    return f"| {name} | {100 * of.accuracy:.1f} % | {between} | {correlation} | {of.pairs} | {of.tied} |"


def _won(better: float, worse: float) -> float:
    return 0.5 if better == worse else float(better > worse)


def ordered(chain: Sequence[str], scores: Scores, dimension: str) -> list[float]:
    """1, 0 or 0.5 for a tie of every pair of the chain that both have a score in the dimension."""
    chain_scores = [scores[name][dimension] for name in chain if dimension in scores.get(name, {})]
    return [_won(better, worse) for better, worse in combinations(chain_scores, 2)]


def rank_correlation(chain: Sequence[str], scores: Scores, dimension: str) -> float | None:
    """Spearman's of a chain of three and more; 0 where all scores are equal."""
    from scipy import stats

    chain_scores = [scores[name][dimension] for name in chain if dimension in scores.get(name, {})]
    if len(chain_scores) < 3:
        return None
    return (
        0.0 if len(set(chain_scores)) == 1 else float(stats.spearmanr(range(len(chain_scores), 0, -1), chain_scores)[0])
    )


def ordering(chains: Sequence[Sequence[str]], sources: Iterable[Scores], dimension: str) -> Ordering:
    """Over all sources; the interval is over sources, as pairs of one source are alike."""
    by_source, correlations = list[list[float]](), list[float]()
    for scores in sources:
        won = [each for chain in chains for each in ordered(chain, scores, dimension)]
        if won:
            by_source.append(won)
        found = [rank_correlation(chain, scores, dimension) for chain in chains]
        correlations += [each for each in found if each is not None]
    if not by_source:
        return Ordering(None, None, None, None, 0, 0)
    every = [each for won in by_source for each in won]
    found = mean_interval([float(np.mean(won)) for won in by_source])
    correlation = float(np.mean(correlations)) if correlations else None
    return Ordering(found.mean, found.low, found.high, correlation, len(every), every.count(0.5))


def check_judge(judge: str, scores: Mapping[tuple[str, str], Sequence[Score]]) -> JudgeCheck:
    """scores: (source, plant) -> one score or, where it was asked again, several."""
    sources: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    lost, spreads, equals = Counter[str](), list[float](), list[float]()
    for (source, plant), samples in scores.items():
        good = [sample for sample in samples if sample.status == "ok"]
        lost.update(sample.status for sample in samples if sample.status != "ok")
        if good:
            sources[source][plant] = {name: _mean(good, name) for name in good[0].dimensions}
        if len(good) > 1:
            for name in good[0].dimensions:
                values = [sample.dimensions[name] for sample in good]
                spreads.append(float(np.std(values, ddof=1)))
                equals += [float(a == b) for a, b in combinations(values, 2)]
    changes = [
        float(np.mean([of[LONGER][name] - of["right"][name] for name in of["right"]]))
        for of in sources.values()
        if LONGER in of and "right" in of
    ]
    every = list(sources.values())
    return JudgeCheck(
        judge=judge,
        sources=len({source for source, _ in scores}),
        dimensions={name: ordering(chains, every, name) for name, chains in CHAINS.items()},
        means=_means(every),
        equal=float(np.mean(equals)) if equals else None,
        spread=float(np.mean(spreads)) if spreads else None,
        swapped=ordering((("right", SWAPPED),), every, "instruction"),
        longer=mean_interval(changes) if changes else None,
        longer_p=permutation_p(changes) if changes else None,
        lost=dict(lost),
    )


def _mean(samples: Sequence[Score], name: str) -> float:
    values = [sample.dimensions[name] for sample in samples if name in sample.dimensions]
    return float(np.mean(values))


def _means(sources: Sequence[Scores]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for scores in sources:
        for plant, dimensions in scores.items():
            for name, value in dimensions.items():
                found[plant][name].append(value)
    return {plant: {name: float(np.mean(each)) for name, each in of.items()} for plant, of in found.items()}


def read_check(path: Path) -> dict[str, Any]:
    """What judge-check wrote. Raises InputError for another file, or one that was changed."""
    values = read_object(path, REWRITE)
    try:
        orderings = [Ordering(**of) for of in (*values["dimensions"].values(), values["swapped"])]
        estimates = [] if values["longer"] is None else [Estimate(**values["longer"])]
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: is no result of judge-check; run it again or remove the file") from None
    numbers = [value for each in (*orderings, *estimates) for value in dataclasses.astuple(each)]
    numbers += [values.get(name) for name in ("equal", "spread", "longer_p")]
    if not isinstance(values.get("judge"), str) or any(type(n) not in (int, float, type(None)) for n in numbers):
        raise InputError(f"{path}: is no result of judge-check; run it again or remove the file")
    return values
