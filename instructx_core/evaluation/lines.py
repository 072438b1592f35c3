"""Files of JSON lines that a run adds to while it goes, and goes on from: items, outputs, scores, transcripts.

Each link of items -> editor -> outputs -> judge -> scores writes such a file; a line is whole once its newline is on
the disk. What a crash left of a last line is dropped when the file is added to again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..file_lock import Lock, NoLockFile, file_lock
from ..media.names import hidden_beside
from ..media.outputs import not_written


def read_lines(path: str | Path, is_whole: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, object) of every line; a last line without its newline is one that a crash cut, and is left out
    unless it is a whole object. is_whole: of a file that nothing is added to, where a line that was cut is an error.

    Raises InputError for a file that cannot be read and for a line that is no object.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no UTF-8 at byte {error.start}; save it as UTF-8") from None
    lines = text.removeprefix("\ufeff").split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            if number == len(lines) and not is_whole:
                return
            reason = getattr(error, "msg", "it is too deep")
            raise InputError(f"{path}: line {number} is no JSON ({reason}); mend or remove the line") from None
        if not isinstance(value, dict):
            raise InputError(f"{path}: line {number} is no JSON object; write one object a line")
        yield number, value


class LineFile:
    """A file of JSON lines that is added to; each line is on the disk before the next one is made."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @contextmanager
    def claim(self) -> Iterator[None]:
        """In the block no other process adds to the file: two would do all work twice and cut each other's lines.

        Raises InputError where one does, or the folder cannot be written to. A file system without locks keeps nobody
        away.
        """
        try:
            with file_lock(hidden_beside(self.path, ".lock")) as lock:
                if lock is Lock.THEIRS:
                    raise InputError(f"{self.path}: another process is adding to it; run this again when it has ended")
                yield
        except NoLockFile as error:
            raise not_written(self.path, error) from None

    def start(self) -> None:
        """Makes the file where there is none; drops the half line that a crash left. Raises InputError where the file
        cannot be written."""
        try:
            with self.path.open("a+b") as file:
                file.seek(0)
                whole = file.read()
                end = whole.rfind(b"\n") + 1
                if end < len(whole):
                    self._finish(file, whole[end:], end)
        except OSError as error:
            raise not_written(self.path, error) from None

    def _finish(self, file: Any, tail: bytes, end: int) -> None:
        """A last line that is whole but for its newline, as an editor leaves it, is kept."""
        try:
            kept = isinstance(json.loads(tail.decode("utf-8")), dict)
        except (ValueError, RecursionError):
            kept = False
        if kept:
            file.write(b"\n")
        else:
            file.truncate(end)

    def add(self, values: Iterable[Mapping[str, Any]]) -> None:
        """Half of a character, as a model's reply may end with, is written as U+FFFD: no file can hold it.

        Raises InputError where the disk is full or the place is gone.
        """
        text = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        try:
            with self.path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise not_written(self.path, error) from None


def check_names(where: str, values: Mapping[str, Any], known: Iterable[str], needed: Iterable[str]) -> None:
    """Raises InputError for a field that is unknown or missing. where: the file and line."""
    known = list(known)
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InputError(f"{where}: unknown field {unknown[0]!r}; use {', '.join(known)}")
    missing = [name for name in needed if name not in values]
    if missing:
        raise InputError(f"{where}: no {missing[0]!r}; a line needs {', '.join(needed)}")
