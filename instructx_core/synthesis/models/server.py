"""An MLLM behind an OpenAI-compatible server as writer and as judge of pairs (the paper's GPT-4o).

Place: evaluation/judge/ (client, pictures, the paper's own prompts) -> server -> ../stages/. Opens a connection to the
address that the cast file gives, and to no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...data.record import EditRecord, Locator
from ...errors import InputError
from ...evaluation.judge.chat import ChatClient, ClientSettings
from ...evaluation.judge.client import ModelJudge
from ...evaluation.judge.pictures import Viewing, png, uniform
from ...evaluation.judge.question import ModelQuestion
from ...evaluation.judge.replies import Unreadable, json_objects
from ...evaluation.judge.run import JudgeCase
from ...evaluation.judge.vie import Vie
from ..terms.roles import SwapWords, Unplayable, without_article

SHOWN, SIDE = 4, 512  # frames of a clip, pixels of their longer side
THINGS = (
    "These are frames of one video clip. Name up to three things in it that move or stand in the foreground and that a "
    "video editor could be asked to remove: people, animals, vehicles, objects. Say each in a few words that mean it "
    "and nothing else in the picture. "
    'Answer with JSON: {"things": ["the words for one thing", ...]}.'
)
SWAP = (
    "These are frames of one video clip. In a video edit {phrase} is replaced by something else of a similar size and "
    "pose, which would look natural there. Say what by. "
    'Answer with JSON: {{"other": "what is there instead, in a few words with its article", "edit": "the instruction '
    'that replaces {phrase} by it", "back": "the instruction that replaces it by {phrase} again"}}.'
)
WORDS = (
    "The first {count} frames are of a video before an edit, the others of the same video after it. The edit is of the "
    "kind {task}. This is true of it: {draft} Write the instruction that a person would give for this edit, in one "
    'sentence. Answer with JSON: {{"instruction": "..."}}.'
)


@dataclass(frozen=True, slots=True)
class ServerWriter:
    url: str
    model: str

    @property
    def name(self) -> str:
        return f"{self.model} writer 1"

    def things(self, frames_FHWC: np.ndarray) -> Sequence[str]:
        found = self._ask(THINGS, _shown(frames_FHWC, "frame"), "things")["things"]
        if not isinstance(found, list):
            raise InputError(f"{self.model}: says things = {found!r}, no list")
        return tuple(without_article(str(each).strip().strip(".")) for each in found if str(each).strip())

    def swap(self, frames_FHWC: np.ndarray, phrase: str, key: str) -> SwapWords:
        reply = self._ask(SWAP.format(phrase=f"the {phrase}"), _shown(frames_FHWC, "frame"), "other", "edit", "back")
        return SwapWords(reply["edit"], reply["other"], reply["back"])

    def instruction(self, source_FHWC: np.ndarray, target_FHWC: np.ndarray, task: str, draft: str) -> str:
        before, after = _shown(source_FHWC, "before"), _shown(target_FHWC, "after")
        words = WORDS.format(count=len(before), task=task.replace("_", " "), draft=draft)
        return str(self._ask(words, [*before, *after], "instruction")["instruction"]).strip()

    def _ask(self, words: str, pictures: Sequence[Any], *keys: str) -> dict[str, Any]:
        """Raises Unplayable where the server cannot be used, InputError where no answer has these keys."""

        def read(text: str) -> dict[str, Any]:
            for values in json_objects(text):
                if all(values.get(key) for key in keys):
                    return values
            raise Unreadable(f"no JSON object with {', '.join(keys)}")

        question = ModelQuestion(words, None, [words, *pictures], read)
        try:
            reply = _chat(self.url, self.model).ask(question)
        except InputError as error:
            raise Unplayable(str(error)) from None
        if reply.answer is None:
            raise InputError(f"{self.model} at {self.url}: no answer that can be read ({reply.reason})")
        return reply.answer


@dataclass(frozen=True, slots=True)
class ServerJudge:
    """By the paper's own questions for video edits (A.9): instruction, preservation, quality, 1 to 10."""

    url: str
    model: str

    @property
    def name(self) -> str:
        return f"{self.model} judge 1"

    def judge(self, source: Path, target: Path, instruction: str) -> dict[str, float]:
        item = EditRecord("pair", "edit", "video", instruction, Locator(str(source.absolute())))
        case = JudgeCase(item, "pair", target, source.parent)
        try:
            score, _ = _judge(self.url, self.model).judge(case)
        except InputError as error:
            raise Unplayable(str(error)) from None
        if score.status != "ok":
            raise InputError(f"{self.model} at {self.url}: {score.status}: {score.reason}")
        return dict(score.dimensions)


@lru_cache(maxsize=2)
def _chat(url: str, model: str) -> ChatClient:
    return ChatClient(ClientSettings(url=url, model=model), "the writer")


@lru_cache(maxsize=2)
def _judge(url: str, model: str) -> ModelJudge:
    return ModelJudge(ClientSettings(url=url, model=model), Vie(), Viewing())


def _shown(frames_FHWC: np.ndarray, label: str) -> list[Any]:
    picked = uniform(len(frames_FHWC), SHOWN)
    return [png(frames_FHWC[number], f"{label} {place}", SIDE) for place, number in enumerate(picked, 1)]
