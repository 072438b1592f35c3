"""Which jobs of a list are finished: a journal beside the list, so that running it again skips them.

Between jobs.py and the disk. A finished job is remembered by its content key with the digest of its output: what was
changed since, on either side, runs again.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from ..digests import file_digest

logger = logging.getLogger("instructx")


class Journal:
    """Finished jobs: one JSON line each, key and the output's digest, beside the list (NAME.done.jsonl).

    Lines are appended whole and flushed to disk, so several processes may share it; one torn by a crash is ignored.
    """

    def __init__(self, jobs: Path) -> None:
        self.path = jobs.with_suffix(".done.jsonl")
        self.done: dict[tuple[str, str], str] = {}
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        for text in filter(None, lines):
            try:
                entry = json.loads(text)
                self.done[entry["output"], entry["key"]] = entry["sha256"]
            except (ValueError, KeyError, TypeError):
                logger.warning("%s: an unreadable line is ignored (a crash tore it); that job runs again", self.path)

    def _name(self, output: Path) -> str:
        return os.path.relpath(output, self.path.parent)

    def holds(self, output: Path, key: str) -> bool:
        """True when a job with this key was finished and its output is still the file that was written."""
        written = self.done.get((self._name(output), key))
        return written is not None and output.is_file() and file_digest(output) == written

    def add(self, output: Path, key: str) -> None:
        """A job with this key is finished."""
        entry = {"output": self._name(output), "key": key, "sha256": file_digest(output)}
        self.done[entry["output"], key] = entry["sha256"]
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(f"\n{json.dumps(entry)}\n")  # the first newline ends a torn line
            stream.flush()
            os.fsync(stream.fileno())
