"""Files of a list of jobs by the place that they mean: by links, by ./ and, where the disk does so, by case.

Beside job_list.py: which two lines write one file, or read what another one writes.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ..media.names import folded_name


class Folders:
    """Real places of files; those of their folders are asked for once, which counts in a list of 100,000 lines."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def place(self, path: Path) -> str:
        """As os.path.realpath."""
        folder, name = os.path.split(path)
        if name in ("", ".", ".."):
            return os.path.realpath(path)
        if folder not in self._known:
            self._known[folder] = os.path.realpath(folder)
        place = os.path.join(self._known[folder], name)
        return os.path.realpath(place) if os.path.islink(place) else place


class Places:
    """Files and the line that named each first."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._alike: dict[str, list[tuple[str, int]]] = {}

    def add(self, path: Path, line: int) -> None:
        place = self._folders.place(path)
        self._alike.setdefault(folded_name(place), []).append((place, line))

    def find(self, path: Path) -> int | None:
        """The first line that named this file."""
        place = self._folders.place(path)
        near = self._alike.get(folded_name(place), [])
        return next((line for other, line in near if same_place(Path(place), Path(other))), None)


def same_place(a: Path, b: Path) -> bool:
    """Whether two absolute paths without links name one file, which need not be there."""
    if a == b:
        return True
    try:
        return os.path.samefile(a.parent, b.parent) and (a.name == b.name or _one_name(a.parent, a.name, b.name))
    except OSError:  # no such folder: the edit will say so
        return False


def _one_name(folder: Path, a: str, b: str) -> bool:
    """Whether this folder's file system takes two names that differ in case or composition for one: it is asked."""
    with tempfile.TemporaryDirectory(prefix=".instructx-", dir=folder) as trial:
        (Path(trial) / a).touch()
        return (Path(trial) / b).exists()
