"""GEdit-Bench's questions: VIEScore's two, of the instruction with both pictures, of the quality with one.

Place: case -> two questions -> semantics and quality, each the smaller of two scores from 0 to 10 (Q_SC, Q_PQ). As the
authors' script: no system message, the text before the pictures, the edited one at the source's size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from ..items import media_path
from .checkout import file_below, text_constants, wanted
from .pictures import Viewing
from .question import DimensionScores, ModelQuestion
from .replies import list_scores
from .run import JudgeCase

REPOSITORY = "stepfun-ai/Step1X-Edit"
NAMES = {
    "context": "_context_no_delimit",
    "rule": "_prompts_0shot_two_image_edit_rule",
    "semantics": "_prompts_0shot_tie_rule_SC",
    "quality": "_prompts_0shot_rule_PQ",
}


class GEdit:
    """prompts: the checkout."""

    name = "gedit"

    def __init__(self, prompts: Path) -> None:
        path = file_below(prompts, "vie_prompts.py", REPOSITORY)
        words = wanted(path, NAMES, text_constants(path))
        self.semantics = "\n".join([words["context"], words["rule"], words["semantics"]])
        self.quality = "\n".join([words["context"], words["quality"]])

    def questions(self, case: JudgeCase, viewing: Viewing) -> list[ModelQuestion[DimensionScores]]:
        source = media_path(case.item, "source", case.folder)
        assert source is not None, "every record has a source"
        before = viewing.picture(source, "")
        after = viewing.picture(case.output, "", like=before.size)
        asked = self.semantics.replace("<instruction>", case.item.instruction)
        editing = partial(list_scores, names=("editing", "overediting"), low=0, high=10)
        looks = partial(list_scores, names=("naturalness", "artifacts"), low=0, high=10)
        return [
            ModelQuestion(self.semantics, None, [asked, before, after], editing),
            ModelQuestion(self.quality, None, [self.quality, after], looks),
        ]

    def combine(self, answers: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return {"semantics": min(answers[0].values()), "quality": min(answers[1].values())}
