"""What a study says: mean scores by editor and question, who is better than whom, how far the raters agree.

Place: answers -> result -> `instructx eval study-result`. As in A.3 of the paper scores are averaged over raters and
items. Intervals are over both; differences between editors are paired item by item, on the raters' mean of each item.
What counts for the average and for its differences is one thing: AVERAGE_RULE.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..statistics.agreement import alpha, crossed_interval
from ..statistics.intervals import Estimate
from ..statistics.paired import Difference, differences
from .answers import QUESTIONS, Answers, StudyScores, unblind
from .plan import StudyPlan
from .questions import questions

TITLES = {question.key: question.title for question in questions("video")}
AVERAGE = "average"
AVERAGE_RULE = (
    "Average and its differences count a rater's rating of a result only when all its questions are answered; the "
    "column of a question counts every answer."
)


@dataclass(frozen=True, slots=True)
class StudyResult:
    """means: editor -> question, or "average" -> estimate. agreement: question -> alpha, None where not defined.

    given, asked: numbers of ratings. incomplete: rater -> ratings that the rater left out.
    """

    study: str
    raters: tuple[str, ...]
    items: int
    means: dict[str, dict[str, Estimate | None]]
    agreement: dict[str, Estimate | None]
    differences: dict[str, list[Difference]]
    given: int
    asked: int
    incomplete: dict[str, int]
    left_out: dict[str, list[str]]

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def text(self) -> str:
        """Markdown."""
        heads = [*(TITLES[key] for key in QUESTIONS), "Average"]
        lines = [
            f"Study {self.study}: {len(self.raters)} raters, {self.items} items, {self.given} of {self.asked} ratings.",
            "",
            f"| Method | {' | '.join(heads)} |",
            f"| --- |{' --- |' * len(heads)}",
        ]
        for editor, means in self.means.items():
            lines.append(f"| {editor} | {' | '.join(_cell(means[key]) for key in (*QUESTIONS, AVERAGE))} |")
        lines += ["", AVERAGE_RULE, "", "Agreement of the raters (Krippendorff's alpha, ordinal):", ""]
        lines += [f"- {TITLES[key]}: {_cell(self.agreement[key], 'not defined')}" for key in QUESTIONS]
        lines += ["", "Differences of the average, item by item (p-values corrected by Holm's method):", ""]
        lines += [_said(each) for each in self.differences[AVERAGE]]
        if self.incomplete:
            missing = ", ".join(f"{rater}: {count}" for rater, count in self.incomplete.items())
            lines += ["", f"Ratings that are missing: {missing}."]
        for editor, items in self.left_out.items():
            lines += ["", f"Not in the study, as {editor} has no output of them: {len(items)} items."]
        return "\n".join(lines)


def _cell(estimate: Estimate | None, nothing: str = "-") -> str:
    if estimate is None:
        return nothing
    between = "" if estimate.low is None else f" [{estimate.low:.2f}, {estimate.high:.2f}]"
    return f"{estimate.mean:.2f}{between}"


def _said(each: Difference) -> str:
    p = "" if each.p_holm is None else f", p = {each.p_holm:.4f}"
    nothing = "no item with complete ratings of both"
    return f"- {each.first} - {each.second}: {_cell(each.difference, nothing)}{p}"


def study_result(plan: StudyPlan, answers: Sequence[Answers]) -> StudyResult:
    """Raises InputError as unblind()."""
    all_of = unblind(plan, answers)
    score_RIEQ = all_of.score_RIEQ
    average_RIE = _average(score_RIEQ)
    means, items = {}, len(all_of.items)
    for number, editor in enumerate(all_of.editors):
        of_editor = {key: crossed_interval(score_RIEQ[:, :, number, q]) for q, key in enumerate(QUESTIONS)}
        means[editor] = {**of_editor, AVERAGE: crossed_interval(average_RIE[:, :, number])}
    flat_RUQ = score_RIEQ.reshape(len(all_of.raters), -1, len(QUESTIONS))
    held_R = np.isfinite(flat_RUQ).sum(axis=(1, 2))
    asked = items * len(all_of.editors) * len(QUESTIONS)
    return StudyResult(
        study=plan.study,
        raters=all_of.raters,
        items=items,
        means=dict(sorted(means.items(), key=lambda entry: -(entry[1][AVERAGE] or NOTHING).mean)),
        agreement={key: alpha(flat_RUQ[:, :, q]) for q, key in enumerate(QUESTIONS)},
        differences=_differences(all_of),
        given=int(held_R.sum()),
        asked=asked * len(all_of.raters),
        incomplete={r: int(asked - n) for r, n in zip(all_of.raters, held_R, strict=True) if n < asked},
        left_out=plan.left_out,
    )


NOTHING = Estimate(-np.inf, None, None, 0)


def _average(score_RIEQ: np.ndarray) -> np.ndarray:
    """RIE: the mean of the questions of each rating, NaN where one of them was not answered."""
    return score_RIEQ.mean(axis=-1)


def _differences(all_of: StudyScores) -> dict[str, list[Difference]]:
    """Of each question and of the average, on items that both editors of a pair have ratings of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an item that nobody rated has no mean: NaN, left out below
        item_IEQ = np.nanmean(all_of.score_RIEQ, axis=0)
        average_IE = np.nanmean(_average(all_of.score_RIEQ), axis=0)
    of_question = {key: item_IEQ[:, :, q] for q, key in enumerate(QUESTIONS)}
    of_question[AVERAGE] = average_IE
    found = {}
    for key, score_IE in of_question.items():
        scores = {
            editor: {item: float(score_IE[i, e]) for i, item in enumerate(all_of.items) if np.isfinite(score_IE[i, e])}
            for e, editor in enumerate(all_of.editors)
        }
        found[key] = differences({editor: of for editor, of in scores.items() if of})
    return found
