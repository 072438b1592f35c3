"""A mixture: which sets a run is trained on, how often each is drawn, and which of its records.

First step of data from files: MixtureSet says how one set is read and filtered, Mixture has them all with the rules of
the buckets. mixture_file.py reads both from a file; opening.py makes a source of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from .record.rejects import MOST
from .sizing import Sizing


@dataclass(frozen=True, slots=True)
class MixtureSet:
    """One set. format: how it is read, "" to tell from the path. weight: how often it is drawn, beside the others.

    tasks: only these, () for all; but: none of these. keep: column -> limit, "> 4", ">= 4", "< 4", "<= 4" or "== x".
    best: column -> share: the records with the highest values. columns: names of a set's columns, where they are other
    than its reader takes them to be. instructions: said of every record, in place of what the set says: one in
    several wordings. mirror: every record is there once more, mirrored, for edits that know no left and right.
    """

    path: Path
    name: str
    format: str = ""
    weight: float = 1.0
    tasks: tuple[str, ...] = ()
    but: tuple[str, ...] = ()
    keep: Mapping[str, str] = field(default_factory=dict)
    best: Mapping[str, float] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)
    instructions: tuple[str, ...] = ()
    mirror: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise InputError(f"set {self.name}: weight is {self.weight:g}; give a number above 0")
        for column, share in self.best.items():
            if not 0 < share <= 1:
                raise InputError(f"set {self.name}: best.{column} is {share:g}; give a share above 0, at most 1")
        if not isinstance(self.mirror, bool):
            raise InputError(f"set {self.name}: mirror is {self.mirror!r}; it is true or false")
        if not all(each.strip() for each in self.instructions):
            raise InputError(f"set {self.name}: an instruction is empty; say what is to be edited")


@dataclass(frozen=True, slots=True)
class Mixture:
    """validation: share of each set that is split off. max_rejects: share of a set's records that may be bad."""

    name: str
    sets: tuple[MixtureSet, ...]
    sizing: Sizing = Sizing()  # noqa: RUF009 - frozen
    validation: float = 0.01
    max_rejects: float = MOST

    def __post_init__(self) -> None:
        for name in ("validation", "max_rejects"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name):g}; give a share of at least 0, below 1")
        names = [each.name for each in self.sets]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"two sets are called {twice}; give each a `name` of its own")
        if not names:
            raise InputError(f"mixture {self.name} has no set; add [[set]] with a path")
