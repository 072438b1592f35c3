"""A candidate: one clip of a film on its way to training pairs, with what every stage found out about it.

Place: films.py makes candidates, stages/ run on them, export.py turns those that came through into records. A candidate
is a folder with its media and `candidate.json`, which is written whole after every stage: whoever is killed loses the
stage that was running and nothing else, and any number of processes or machines may work on different folders.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...media.outputs import atomic_path

STATE = "candidate.json"


@dataclass(frozen=True, slots=True)
class Reject:
    """Why a candidate goes no further: the measure that failed, and all others of its stage."""

    stage: str
    reason: str  # the same words for the same cause, so that reasons can be counted
    value: float | None = None
    limit: float | None = None
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidate:
    """film: its name; start, stop: seconds in it. facts: what stages found, by stage. done: version of each stage.

    Media lie in the folder under the names that stages give them.
    """

    id: str
    film: str
    start: float
    stop: float
    fps: float
    frames: int
    height: int
    width: int
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    done: Mapping[str, str] = field(default_factory=dict)
    reject: Reject | None = None

    def with_facts(self, stage: str, **facts: Any) -> Candidate:
        """The same with what a stage found."""
        return replace(self, facts=dict(self.facts) | {stage: facts})

    def fact(self, stage: str, name: str) -> Any:
        """What an earlier stage found. Raises KeyError where that stage did not run: the order of stages is wrong."""
        return self.facts[stage][name]


def save(candidate: Candidate, folder: Path) -> None:
    """Writes the state of a candidate, whole or not at all."""
    with atomic_path(folder / STATE) as temporary:
        temporary.write_text(json.dumps(asdict(candidate), indent=1) + "\n")


def load(folder: Path) -> Candidate:
    """Reads one back. Raises InputError for a file that is damaged or of another kind."""
    path = folder / STATE
    try:
        values = json.loads(path.read_text())
        reject = values.pop("reject")
        return Candidate(**values, reject=None if reject is None else Reject(**reject))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: no state of a candidate ({error}); remove its folder, and it is made again"
        ) from None
