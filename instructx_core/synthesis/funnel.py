"""The funnel: how many candidates go into each stage, how many come out, and why the others do not.

Place: candidates' states -> funnel -> the command's table. What makes a pipeline improvable is knowing which
filter costs what.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .terms.candidate import Candidate


@dataclass(frozen=True, slots=True)
class Step:
    """entered = passed + sum of reasons."""

    stage: str
    entered: int
    passed: int
    reasons: dict[str, int]


def funnel(candidates: Sequence[Candidate], stages: Sequence[str]) -> list[Step]:
    """Of every stage in order. A candidate that is not through yet counts as far as it has come."""
    steps, rest = [], list(candidates)
    for stage in stages:
        entered = [each for each in rest if stage in each.done]
        lost = Counter(each.reject.reason for each in entered if each.reject is not None and each.reject.stage == stage)
        rest = [each for each in entered if each.reject is None or each.reject.stage != stage]
        steps.append(Step(stage, len(entered), len(rest), dict(lost.most_common())))
    return steps


def table(steps: Sequence[Step]) -> list[str]:
    """Lines for a terminal."""
    lines = [f"{'stage':<12} {'in':>6} {'out':>6}  reasons"]
    for step in steps:
        reasons = ", ".join(f"{reason} {count}" for reason, count in step.reasons.items())
        lines.append(f"{step.stage:<12} {step.entered:>6} {step.passed:>6}  {reasons}".rstrip())
    return lines
