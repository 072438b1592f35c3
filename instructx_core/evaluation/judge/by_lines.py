"""ImgEdit's, OpenVE's and RefVIE's questions: a prompt a kind of edit, answered by lines "Name: 4", each 1 to 5.

Place: case -> one question -> three scores under the prompt's own names. The names are read from the prompt ("Name: A
number from 1 to 5."), so that a new version of it is followed. As the authors' scripts: ImgEdit and OpenVE put the
prompt before the pictures in the user's message, RefVIE makes it the system message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from ...errors import InputError
from ..items import media_path
from .checkout import file_below, json_texts, text_constants, wanted
from .pictures import ShownPicture, Viewing
from .question import DimensionScores, ModelQuestion
from .replies import line_scores
from .run import JudgeCase

LINE = re.compile(r"^\W*([^:\n]+?)\W*:\s*A number from 1 to 5", re.MULTILINE)
OPENVE = {
    name: "_".join(word.capitalize() for word in name.split("_"))
    for name in (
        "global_style",
        "background_change",
        "local_change",
        "local_remove",
        "local_add",
        "subtitle_edit",
        "creative_edit",
        "camera_edit",
    )
}
REFVIE = {"subject": "SUBJECT_REFERENCE_PROMPT", "background": "BACKGROUND_REFERENCE_PROMPT"}


def dimension_names(prompt: str, where: str) -> list[str]:
    """The three names of a prompt. Raises InputError for one that asks otherwise."""
    names = [name.strip() for name in LINE.findall(prompt)]
    if len(names) != 3:
        raise InputError(f'{where}: asks for {len(names)} scores ("Name: A number from 1 to 5"), not 3')
    return names


class ByLines:
    """prompts: by task. placeholder: what the instruction stands for in them."""

    name = ""
    placeholder = "<edit_prompt>"

    def __init__(self, prompts: Mapping[str, str]) -> None:
        self.prompts = dict(prompts)
        self.names = {task: dimension_names(prompt, f"the prompt of {task}") for task, prompt in prompts.items()}

    def prompt_of(self, case: JudgeCase) -> tuple[str, str]:
        """The fixed words, and with the instruction."""
        task = case.item.task
        if task not in self.prompts:
            raise InputError(f"item {case.item.id}: no prompt for {task!r}; there are {', '.join(self.prompts)}")
        return self.prompts[task], self.prompts[task].replace(self.placeholder, case.item.instruction)

    def shown(self, case: JudgeCase, viewing: Viewing) -> list[ShownPicture]:
        raise NotImplementedError

    def questions(self, case: JudgeCase, viewing: Viewing) -> list[ModelQuestion[DimensionScores]]:
        words, asked = self.prompt_of(case)
        read = partial(line_scores, names=self.names[case.item.task], low=1, high=5)
        return [ModelQuestion(words, None, [asked, *self.shown(case, viewing)], read)]

    def combine(self, answers: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return dict(answers[0])


class ImgEdit(ByLines):
    name = "imgedit"

    def __init__(self, prompts: Path) -> None:
        super().__init__(json_texts(file_below(prompts, "prompts.json", "PKU-YuanGroup/ImgEdit")))

    def shown(self, case: JudgeCase, viewing: Viewing) -> list[ShownPicture]:
        source = media_path(case.item, "source", case.folder)
        assert source is not None, "every record has a source"
        return [viewing.picture(source, ""), viewing.picture(case.output, "")]


class OpenVE(ByLines):
    """Frames, where the authors send the clips themselves: the labels say whose; none where clips are sent."""

    name = "openve"

    def __init__(self, prompts: Path) -> None:
        path = file_below(prompts, "qwen3vl_benchmark.py", "OpenVE-Team/OpenVE-3M")
        super().__init__(wanted(path, OPENVE, text_constants(path)))

    def shown(self, case: JudgeCase, viewing: Viewing) -> list[ShownPicture]:
        source = media_path(case.item, "source", case.folder)
        assert source is not None, "every record has a source"
        before, after = ("", "") if viewing.video == "native" else ("Before editing:", "After editing:")
        return [*viewing.clip(source, before), *viewing.clip(case.output, after)]


class RefVIE(ByLines):
    name = "refvie"
    placeholder = "{prompt}"

    def __init__(self, prompts: Path) -> None:
        path = file_below(prompts, "eval_refvie_gemini.py", "showlab/Kiwi-Edit")
        super().__init__(wanted(path, REFVIE, text_constants(path)))

    def questions(self, case: JudgeCase, viewing: Viewing) -> list[ModelQuestion[DimensionScores]]:
        (question,) = super().questions(case, viewing)
        system, *parts = question.parts
        assert isinstance(system, str), "the prompt comes first"
        return [ModelQuestion(question.prompt, system, parts, question.read)]

    def shown(self, case: JudgeCase, viewing: Viewing) -> list[ShownPicture]:
        source, reference = (media_path(case.item, name, case.folder) for name in ("source", "reference"))
        if source is None or reference is None:
            raise InputError(f"item {case.item.id}: has no reference picture; every item of RefVIE-Bench has one")
        labels = ("", "", "") if viewing.video == "native" else ("Reference image:", "Original video:", "Edited video:")
        return [
            viewing.picture(reference, labels[0]),
            *viewing.clip(source, labels[1]),
            *viewing.clip(case.output, labels[2]),
        ]
