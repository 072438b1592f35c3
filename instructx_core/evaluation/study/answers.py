"""Answers of raters -> scores by editor: read against the key, so that what was blind has names again.

Place: the form's file of answers + the key -> answers -> result. Shapes: score_RIEQ of raters, items, editors,
questions, float64, NaN where a rater gave none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ..objects import read_object
from .plan import StudyPlan
from .questions import HIGHEST, LOWEST, questions

KIND = "instructx study answers"
QUESTIONS = tuple(question.key for question in questions("video"))
Ratings = dict[str, dict[str, dict[str, int]]]  # item -> code -> question -> score


@dataclass(frozen=True, slots=True)
class Answers:
    """Of one rater."""

    rater: str
    ratings: Ratings
    path: Path


@dataclass(frozen=True, slots=True, eq=False)
class StudyScores:
    """All answers, unblinded."""

    raters: tuple[str, ...]
    items: tuple[str, ...]
    editors: tuple[str, ...]
    score_RIEQ: np.ndarray


def read_answers(path: Path, plan: StudyPlan) -> Answers:
    """Raises InputError for another file, another study's, an unknown item or code, a score that is not 1 to 5."""
    values = read_object(path)
    rater = values.get("rater")
    if values.get("kind") != KIND or not isinstance(rater, str) or not rater.strip():
        raise InputError(f"{path}: holds no answers of a study; give the files that raters saved from the form")
    if values.get("study") != plan.study:
        raise InputError(
            f"{path}: answers study {values.get('study')!r}, the key is of {plan.study!r}; use its own key"
        )
    ratings = values.get("ratings")
    if not isinstance(ratings, dict):
        raise InputError(f"{path}: has no ratings; ask the rater to save the answers again")
    for item, codes in ratings.items():
        for code, scores in _object(path, codes).items():
            if code not in plan.codes.get(item, {}):
                raise InputError(
                    f"{path}: rates {code} of item {item}, which the study has not; was it changed by hand?"
                )
            for question, score in _object(path, scores).items():
                if question not in QUESTIONS or type(score) is not int or not LOWEST <= score <= HIGHEST:
                    raise InputError(
                        f"{path}: item {item}: {question} is {score!r:.40}; scores of {', '.join(QUESTIONS)} are whole "
                        f"numbers from {LOWEST} to {HIGHEST}"
                    )
    return Answers(rater, ratings, path)


def _object(path: Path, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{path}: {value!r:.40} stands where ratings should; ask the rater to save the answers again")
    return value


def unblind(plan: StudyPlan, answers: Sequence[Answers]) -> StudyScores:
    """Raises InputError without a rating, and for two files of one rater."""
    paths: dict[str, Path] = {}
    for each in answers:
        if each.rater in paths:
            raise InputError(f"{each.path} and {paths[each.rater]} are both of {each.rater!r}; keep one of them")
        paths[each.rater] = each.path
    items, editors = tuple(plan.codes), tuple(plan.editors)
    score = np.full((len(answers), len(items), len(editors), len(QUESTIONS)), np.nan)
    for rater, each in enumerate(answers):
        for item, codes in each.ratings.items():
            for code, scores in codes.items():
                editor = editors.index(plan.codes[item][code])
                for question, value in scores.items():
                    score[rater, items.index(item), editor, QUESTIONS.index(question)] = value
    if not np.isfinite(score).any():
        raise InputError("no rating in any of the files; ask the raters to fill in the form")
    return StudyScores(tuple(paths), items, editors, score)
