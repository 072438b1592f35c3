"""Which model answers under a judge's name, as its server says in every reply; another one is another judge.

Beside run.py: transcripts.jsonl -> answering. A name like gpt-4o, or a server of one's own, may stand for other weights
tomorrow; scores of both under one name would be averaged without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..lines import read_lines


class AnsweringModels:
    """The model of a judge's earlier replies, if there are any, and of those that come."""

    def __init__(self, transcripts: Path, judge: str) -> None:
        self.judge, self.model = judge, ""
        for _, transcript in read_lines(transcripts):
            if transcript.get("judge") == judge:
                self.model = next(reply_models(transcript), self.model)

    def check(self, transcript: Mapping[str, Any]) -> None:
        """Raises InputError for a reply of another model."""
        for model in reply_models(transcript):
            self.model = self.model or model
            if model != self.model:
                raise InputError(
                    f"the judge {self.judge} now answers as {model}, its scores here are of {self.model}; give this "
                    "one another --judge-name, or ask for the model by its dated name"
                )


def reply_models(transcript: Mapping[str, Any]) -> Iterator[str]:
    """Of every reply in a transcript whose server named one."""
    for question in transcript.get("questions", ()):
        for attempt in question.get("attempts", ()):
            if attempt.get("model"):
                yield str(attempt["model"])
