"""VIE-Bench's questions (A.9, Figures 20 and 21): the paper's prompts word for word, with frames, or clips as files.

Place: case -> one question -> instruction, preservation, quality and, with a reference, similarity, each 1 to 10. What
the paper leaves open is ours: the prompt is the system message; the user's holds the instruction, the reference, then
the frames of both clips, each after its label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path

from ..items import media_path
from .pictures import ShownPicture, Viewing
from .question import DimensionScores, ModelQuestion
from .replies import json_scores
from .run import JudgeCase

PROMPTS = Path(__file__).with_name("prompts")
KEYS = {
    "instruct follow score": "instruction",
    "quality score": "quality",
    "preservation score": "preservation",
    "similarity score": "similarity",
}


@cache
def prompt(with_reference: bool) -> str:
    """Figure 20, or 21 with a reference."""
    name = "vie_reference.txt" if with_reference else "vie_video.txt"
    return (PROMPTS / name).read_text(encoding="utf-8")


class Vie:
    name = "vie"

    def questions(self, case: JudgeCase, viewing: Viewing) -> list[ModelQuestion[DimensionScores]]:
        reference = media_path(case.item, "reference", case.folder)
        source = media_path(case.item, "source", case.folder)
        assert source is not None, "every record has a source"
        parts: list[str | ShownPicture] = [f"The user's instruction: {case.item.instruction}"]
        if reference is not None:
            parts.append(viewing.picture(reference, "The reference image"))
        parts += viewing.clip(source, "The original video (first video)")
        parts += viewing.clip(case.output, "The edited video (second video)")
        words = prompt(reference is not None)
        keys = {key: name for key, name in KEYS.items() if name != "similarity" or reference is not None}
        read = partial(json_scores, keys=keys, low=1, high=10)
        return [ModelQuestion(words, words, parts, read, schema(list(keys)))]

    def combine(self, answers: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return dict(answers[0])


def schema(keys: Sequence[str]) -> dict[str, object]:
    """Of the reply, with the prompt's own keys."""
    fields: dict[str, object] = {"instruction": {"type": "string"}}
    fields |= {key: {"type": "integer", "minimum": 1, "maximum": 10} for key in keys}
    fields["reason"] = {"type": "string"}
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
