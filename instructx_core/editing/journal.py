"""Which jobs of a list are finished: a journal beside the list, so that running it again skips them.

Between jobs.py and the disk. A finished job is remembered by its content key with the digest of its output: what was
changed since, on either side, runs again. A job that began and did not end took its process with it, or was killed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..digests import file_digest
from ..errors import InputError

logger = logging.getLogger("instructx")


@dataclass(frozen=True, slots=True)
class Entry:
    """A finished job: its output as the journal names it, its content key, SHA-256 of what was written."""

    output: str
    key: str
    sha256: str


class Journal:
    """Finished jobs: one JSON line each, beside the list (NAME.done.jsonl) or at `path`.

    Lines are appended whole and flushed to disk, so several processes of one machine may share it; one torn by a crash
    is ignored. unfinished: outputs whose job began and neither finished nor failed. Raises InputError where it cannot
    be read or written: before a model is loaded.
    """

    def __init__(self, jobs: Path, path: Path | None = None) -> None:
        self.path = path or jobs.with_name(f"{jobs.stem}.done.jsonl")
        self.done: dict[tuple[str, str], str] = {}
        self.unfinished: set[str] = set()
        for text in filter(None, self._lines()):
            try:
                self._read(json.loads(text))
            except (ValueError, KeyError, TypeError, RecursionError):
                logger.warning("%s: an unreadable line is ignored (a crash tore it); that job runs again", self.path)

    def _lines(self) -> list[str]:
        reason: str | None = "it is no file"
        try:
            if self.path.is_file() or not self.path.exists():  # a device may never end
                with self.path.open("a+b") as stream:
                    stream.seek(0)
                    return stream.read().decode("utf-8", "replace").split("\n")
        except OSError as error:
            reason = error.strerror
        raise InputError(
            f"{self.path}: what is finished cannot be remembered there ({reason}); give --journal FILE in a folder "
            "that can be written to"
        )

    def _read(self, line: Mapping[str, str]) -> None:
        """{"output", "key", "sha256"} of a finished job, {"output", "state"} of one that begins or fails."""
        output = line["output"]
        if "state" in line:
            (self.unfinished.add if line["state"] == "begun" else self.unfinished.discard)(output)
            return
        self.done[output, line["key"]] = line["sha256"]
        self.unfinished.discard(output)

    def name(self, output: Path) -> str:
        """An output as the journal names it: relative to its own folder where that can be."""
        try:
            return os.path.relpath(output, self.path.parent)
        except ValueError:  # Windows: on another drive
            return str(output.absolute())

    def holds(self, output: Path, key: str) -> bool:
        """True when a job with this key was finished and its output is still the file that was written."""
        written = self.done.get((self.name(output), key))
        return written is not None and output.is_file() and file_digest(output) == written

    def entry(self, output: Path, key: str) -> Entry:
        """What there is to remember of a job that has just written its output."""
        return Entry(self.name(output), key, file_digest(output))

    def add(self, entry: Entry) -> None:
        """A job is finished. Raises OSError where that cannot be written."""
        self._append({"output": entry.output, "key": entry.key, "sha256": entry.sha256}, lasting=True)

    def begin(self, output: Path) -> None:
        """A job begins. What cannot be written is not remembered: it costs no job."""
        with contextlib.suppress(OSError):
            self._append({"output": self.name(output), "state": "begun"})

    def fail(self, output: Path) -> None:
        """A job that began has failed, and has not taken the process with it."""
        with contextlib.suppress(OSError):
            self._append({"output": self.name(output), "state": "failed"})

    def _append(self, line: dict[str, str], lasting: bool = False) -> None:
        self._read(line)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(f"\n{json.dumps(line)}\n")  # the first newline ends a torn line
            stream.flush()
            if lasting:
                os.fsync(stream.fileno())
