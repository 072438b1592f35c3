"""Records of runs -> differences with intervals, verdicts, and what could have been seen: of each experiment.

Between queue.py and report.py. Differences are paired: the same sample under two variants of one seed. Intervals are
bootstraps over samples and seeds at once (evaluation/statistics/agreement.py), at a level shared by the comparisons.
Legend: S seeds, I samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.statistics.agreement import crossed_interval
from ..evaluation.statistics.intervals import Estimate
from .claims import Comparison, Outcome, joint_verdict, outcome
from .experiments import Experiment, Variant
from .measures import BETTER, GROUPS, Record
from .power import ASSUMED, LEVEL, Deviations, detectable
from .queue import measured_records
from .schedule import Scale, measured_run

VariantRecords = Mapping[str, list[list[Record]]]  # variant -> seed -> records


@dataclass(frozen=True, slots=True)
class MeasuredDifference:
    """One comparison, measured. detectable: what samples and seeds of this spread find in four of five cases."""

    comparison: Comparison
    estimate: Estimate | None
    by_seed: tuple[float, ...]
    samples: int
    detectable: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Finding:
    """values: of each variant and measure of the experiment, the mean over samples and seeds with its interval."""

    experiment: Experiment
    differences: tuple[MeasuredDifference, ...]
    values: dict[str, dict[str, Estimate]]
    verdict: Outcome
    missing: tuple[str, ...]  # runs that have not been done
    sources: tuple[dict[str, Any], ...] = ()


def finding_of(scale: Scale, experiment: Experiment, output: Path) -> Finding:
    """What the runs that are there say; nothing is judged while one is missing."""
    measured: dict[str, list[list[Record]]] = {}
    missing, sources = [], []
    for variant in experiment.variants:
        for seed in range(scale.seeds_of(experiment)):
            run = measured_run(scale, experiment, variant, seed)
            found = measured_records(run, output)
            if found is None:
                missing.append(run.name)
                continue
            measured.setdefault(variant.name, []).append(found.pop("records"))
            sources.append({"variant": variant.name, "seed": seed, "run": run.name, **found})
    if missing:
        return Finding(experiment, (), {}, "cannot tell", tuple(missing))
    return judged_finding(experiment, measured, tuple(sources))


def judged_finding(
    experiment: Experiment, measured: VariantRecords, sources: tuple[dict[str, Any], ...] = ()
) -> Finding:
    """All comparisons of an experiment whose runs are there."""
    count = sum(each.expects != "open" for each in experiment.comparisons)
    differences = tuple(compared(each, measured, max(1, count)) for each in experiment.comparisons)
    outcomes: list[Outcome] = [each.outcome for each in differences if each.comparison.expects != "open"]
    return Finding(experiment, differences, _values(experiment, measured), joint_verdict(outcomes), (), sources)


def compared(comparison: Comparison, measured: VariantRecords, comparisons: int) -> MeasuredDifference:
    """One difference, positive where the first variant is better."""
    first, second = (values_by_sample(comparison, measured[name]) for name in (comparison.first, comparison.second))
    common = [name for name in first[0] if all(name in seed for seed in (*first, *second))]
    if not common:
        return MeasuredDifference(comparison, None, (), 0, float("inf"), "cannot tell")
    difference_SI = np.array([[a[name] - b[name] for name in common] for a, b in zip(first, second, strict=True)])
    by_seed = tuple(float(value) for value in difference_SI.mean(axis=1))
    estimate = crossed_interval(difference_SI, 1 - LEVEL / comparisons)
    reach = detectable(spread_of(difference_SI), len(common), len(by_seed), comparisons)
    return MeasuredDifference(comparison, estimate, by_seed, len(common), reach, outcome(comparison, estimate, by_seed))


def values_by_sample(comparison: Comparison, by_seed: list[list[Record]]) -> list[dict[str, float]]:
    """Of each seed, the value of every sample of the comparison's group that has one."""
    value, chosen = BETTER[comparison.measure], GROUPS[comparison.group]
    return [
        {record["id"]: value(record) for record in records if comparison.measure in record and chosen(record)}
        for records in by_seed
    ]


def spread_of(difference_SI: np.ndarray) -> Deviations:
    """Of the samples' means over seeds, and of the seeds' means beyond what the samples explain."""
    seeds, samples = difference_SI.shape
    sample = float(difference_SI.mean(axis=0).std(ddof=1)) if samples > 1 else float("inf")
    seed = float(difference_SI.mean(axis=1).std(ddof=1)) if seeds > 1 else float("inf")
    return Deviations(sample, seed)


def planned(scale: Scale, experiment: Experiment) -> list[tuple[Comparison, float]]:
    """Of every comparison, what it would find by what is assumed of spreads, if all samples were in its group."""
    count = max(1, sum(each.expects != "open" for each in experiment.comparisons))
    found = []
    for each in experiment.comparisons:
        samples = scale.images if each.group in ("image", "small objects") else scale.clips
        samples += scale.images if each.group == "all" else 0
        found.append((each, detectable(ASSUMED[each.measure], samples, scale.seeds_of(experiment), count)))
    return found


def _values(experiment: Experiment, measured: VariantRecords) -> dict[str, dict[str, Estimate]]:
    wanted = dict.fromkeys((each.measure, each.group) for each in experiment.comparisons)
    return {variant.name: _of_variant(variant, measured, list(wanted)) for variant in experiment.variants}


def _of_variant(variant: Variant, measured: VariantRecords, wanted: list[tuple[str, str]]) -> dict[str, Estimate]:
    found = {}
    for name, group in wanted:
        asked = Comparison(first=variant.name, second="", expects="open", measure=name, smallest=0, group=group)
        rows = values_by_sample(asked, measured[variant.name])
        common = [sample for sample in rows[0] if all(sample in row for row in rows)]
        if common:
            estimate = crossed_interval(np.array([[row[sample] for sample in common] for row in rows]))
            if estimate is not None:
                found[f"{name}, {group}"] = estimate
    return found
