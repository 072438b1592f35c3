"""scores.jsonl: what a judge said of each output, one JSON object an item, judge and sample; what all tables are of.

    {"id": "add/3", "editor": "instructx", "judge": "gpt-4o", "sample": 0, "status": "ok",
     "dimensions": {"instruction": 8, "quality": 7}, "reason": "...", "transcript": "add/3-0"}

outputs -> judge -> Score -> statistics, report. A missing output and a reply that cannot be read are lines too: they
are counted and shown, never left out and never guessed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .lines import LineFile, check_names, read_lines

SCORES = "scores.jsonl"
STATUSES = ("ok", "unparsed", "missing", "refused")
Key = tuple[str, str, str, int]  # item, editor, judge, sample


@dataclass(frozen=True, slots=True)
class Score:
    """One judgement. status: ok; unparsed: no reply could be read after all tries; missing: there was no output;
    refused: the judge would not. dimensions: by name, empty unless ok. sample: which of several times the same judge
    was asked, from 0. transcript: id in transcripts.jsonl. sha256: of the file that was judged; None: not known."""

    id: str
    editor: str
    judge: str
    dimensions: Mapping[str, float]
    status: str = "ok"
    reason: str = ""
    transcript: str | None = None
    sample: int = 0
    sha256: str | None = None

    def __post_init__(self) -> None:
        for name in ("id", "editor", "judge"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise InputError(f"a score's {name} is {value!r:.80}; it must be a name")
        if self.status not in STATUSES:
            raise InputError(f"score of item {self.id}: status {self.status!r:.80}; use one of {', '.join(STATUSES)}")
        if not isinstance(self.dimensions, Mapping) or (self.status == "ok") != bool(self.dimensions):
            raise InputError(f"score of item {self.id}: status {self.status} with dimensions {self.dimensions!r:.80}")
        for name, value in self.dimensions.items():
            if type(value) not in (int, float) or not math.isfinite(value):
                raise InputError(f"score of item {self.id}: {name} is {value!r:.80}; it must be a number")
        if not isinstance(self.reason, str):
            raise InputError(f"score of item {self.id}: reason is {self.reason!r:.80}; it must be a text")
        if not isinstance(self.sha256, str | None):
            raise InputError(f"score of item {self.id}: sha256 is {self.sha256!r:.80}; use a text or null")
        if type(self.sample) is not int or self.sample < 0:
            raise InputError(f"score of item {self.id}: sample is {self.sample!r:.80}; samples count from 0")

    @property
    def key(self) -> Key:
        return self.id, self.editor, self.judge, self.sample

    def as_json(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | {"dimensions": dict(self.dimensions)}


def read_scores(path: str | Path) -> list[Score]:
    """The last line of each (item, editor, judge, sample). Raises InputError with the line that is wrong."""
    names = [field.name for field in dataclasses.fields(Score)]
    found: dict[Key, Score] = {}
    for number, values in read_lines(path):
        where = f"{path}: line {number}"
        check_names(where, values, names, ("id", "editor", "judge", "status"))
        try:
            score = Score(**{"dimensions": {}, **values})
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        found.pop(score.key, None)
        found[score.key] = score
    return list(found.values())


class ScoreFile:
    """scores.jsonl of a folder, open to be added to."""

    def __init__(self, folder: Path) -> None:
        self.file = LineFile(folder / SCORES)

    def start(self) -> dict[Key, Score]:
        """What need not be judged again: all but missing outputs, which may be there now. Raises InputError as
        read_scores."""
        self.file.start()
        return {score.key: score for score in read_scores(self.file.path) if score.status != "missing"}

    def add(self, scores: Iterable[Score]) -> None:
        self.file.add(score.as_json() for score in scores)
