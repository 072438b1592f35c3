"""What is asked of a model in one request: text, pictures, and how its reply is read. What a judge's protocol is.

Place: pictures, protocols -> question -> chat -> scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from .pictures import ShownPicture, Viewing
from .run import JudgeCase

CHARACTERS_A_TOKEN = 4  # of the estimate of a dry run only
Answer = TypeVar("Answer")
DimensionScores = tuple[dict[str, float], str]  # by dimension, and the judge's reason


@dataclass(frozen=True, slots=True)
class ModelQuestion(Generic[Answer]):
    """One request. read: a reply -> the answer, of a judge its scores; raises Unreadable.

    prompt: the fixed words, whose hash goes into the transcript. schema: of the reply, for servers that hold to one;
    name: what it is called there.
    """

    prompt: str
    system: str | None
    parts: Sequence[str | ShownPicture]
    read: Callable[[str], Answer]
    schema: Mapping[str, Any] | None = field(default=None)
    name: str = "scores"

    def messages(self) -> list[dict[str, Any]]:
        """As chat messages; a labelled picture comes after its label."""
        content: list[dict[str, Any]] = []
        for part in self.parts:
            if isinstance(part, str):
                content.append({"type": "text", "text": part})
                continue
            if part.label:
                content.append({"type": "text", "text": part.label})
            content.append(part.part())
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*system, {"role": "user", "content": content}]

    def note(self) -> dict[str, Any]:
        """What was sent, without the bytes of pictures."""
        return {
            "prompt_sha256": hashlib.sha256(self.prompt.encode()).hexdigest(),
            "system": self.system,
            "sent": [part if isinstance(part, str) else part.note() for part in self.parts],
        }

    @property
    def pictures(self) -> int:
        return sum(isinstance(part, ShownPicture) for part in self.parts)

    @property
    def tokens(self) -> int:
        """An estimate of what is sent."""
        text = len(self.system or "") + sum(len(part) for part in self.parts if isinstance(part, str))
        return text // CHARACTERS_A_TOKEN + sum(part.tokens for part in self.parts if isinstance(part, ShownPicture))


class JudgeProtocol(Protocol):
    """How a benchmark asks its judge. name: of the benchmark's rule of averaging."""

    @property
    def name(self) -> str: ...

    def questions(self, case: JudgeCase, viewing: Viewing) -> list[ModelQuestion[DimensionScores]]:
        """Raises Unshowable (pictures.py) for a file that is no picture, InputError for an item of another kind."""
        ...

    def combine(self, answers: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """The answers to all questions of one case -> the dimensions of its score."""
        ...
