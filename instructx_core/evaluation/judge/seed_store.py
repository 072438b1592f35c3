"""Finished seeds of a best-of edit on disk, beside its output: an edit that was killed goes on at the next seed.

    .edited.png.best-of/  5.png 6.png ...  the edit of each seed
                          edits.jsonl      which edit each of them is, by content, and what there is to report of it
                          scores.jsonl     what a judge said of it, and how the judge was asked

Beside best_of.py. A seed counts once its line is whole and its file is the one that was written.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...digests import file_digest
from ...editing.report import EditReport
from ...errors import InputError
from ...media.names import hidden_beside
from ...media.outputs import make_folder
from ..lines import LineFile, check_names, read_lines
from ..scores import Score

EDIT_NAMES = ("key", "sha256", "padded", "notes", "seconds")
SCORE_NAMES = ("key", "judge", "score")


@dataclass(frozen=True, slots=True)
class FinishedSeed:
    """What there is to report of an edit that was made before. padded: frames that the model was given."""

    padded: int
    notes: tuple[str, ...]
    seconds: Mapping[str, float]


def seeds_folder(output: Path) -> Path:
    """Where the finished seeds of an edit lie."""
    return hidden_beside(output, ".best-of")


class SeedStore:
    """The folder of one edit with several seeds. key: of a seed's edit, all that decides it, by content."""

    def __init__(self, output: Path, restart: bool = False) -> None:
        """Makes the folder where there is none; restart: begins anew. Raises InputError where it cannot be made."""
        self.output, self.folder = output, seeds_folder(output)
        if restart:
            self.remove()
        make_folder(self.folder)
        self.edits, self.scores = LineFile(self.folder / "edits.jsonl"), LineFile(self.folder / "scores.jsonl")
        self.edits.start()
        self.scores.start()

    def file(self, seed: int) -> Path:
        """Of the edit of a seed."""
        return self.folder / f"{seed}{self.output.suffix}"

    def finished(self, key: str, seed: int) -> FinishedSeed | None:
        """The edit of a seed, where it was made before and is still there. Raises InputError for a damaged line."""
        line = self._last(self.edits, EDIT_NAMES, key, lambda _: True)
        if line is None or not self.file(seed).is_file() or file_digest(self.file(seed)) != line["sha256"]:
            return None
        try:
            return FinishedSeed(int(line["padded"]), tuple(map(str, line["notes"])), dict(line["seconds"]))
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.edits.path}: a line is damaged ({error}); delete the folder") from None

    def add_edit(self, key: str, seed: int, report: EditReport) -> None:
        """Remembers an edit that was written to `file(seed)`."""
        values = {"padded": report.frames_padded, "notes": list(report.notes), "seconds": dict(report.seconds)}
        self.edits.add([{"key": key, "sha256": file_digest(self.file(seed)), **values}])

    def score(self, key: str, judge: Mapping[str, Any]) -> Score | None:
        """What that judge said of an edit. judge: its name and how it is asked."""
        line = self._last(self.scores, SCORE_NAMES, key, lambda line: line["judge"] == judge)
        try:
            return None if line is None else Score(**line["score"])
        except TypeError as error:
            raise InputError(f"{self.scores.path}: a line is damaged ({error}); delete the folder") from None

    def add_score(self, key: str, judge: Mapping[str, Any], score: Score) -> None:
        self.scores.add([{"key": key, "judge": dict(judge), "score": score.as_json()}])

    def _last(self, file: LineFile, names: tuple[str, ...], key: str, fits: Any) -> dict[str, Any] | None:
        found = None
        for number, line in read_lines(file.path):
            check_names(f"{file.path}: line {number}", line, names, names)
            if line["key"] == key and fits(line):
                found = line
        return found

    def remove(self) -> None:
        """Deletes the folder and everything in it."""
        shutil.rmtree(self.folder, ignore_errors=not self.folder.exists())

    def remove_if_empty(self) -> None:
        """Deletes the folder where nothing in it is worth going on from: no seed, and no window of one."""
        if self.edits.path.stat().st_size == 0:
            with contextlib.suppress(OSError):
                self.edits.path.unlink()
                self.scores.path.unlink()
                self.folder.rmdir()
