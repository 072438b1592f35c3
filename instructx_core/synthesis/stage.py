"""What a stage is, and running one: skipped where it is done, its outcome on disk before the next begins.

Place: terms/candidate.py -> stage -> stages/, run.py. A stage reads the candidate and the files of its folder, writes
files under names of its own, and returns the candidate with what it found, or why it goes no further.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from ..errors import InputError
from .terms.candidate import Candidate, Reject, load, save
from .terms.roles import Unplayable


class ClipStage(Protocol):
    """version: raised whenever its results change; with those of the stages before, it says what must run again."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def run(self, candidate: Candidate, folder: Path) -> Candidate | Reject: ...


def run_stages(folder: Path, stages: Sequence[ClipStage]) -> Candidate:
    """Runs what is not done yet, in order, until the candidate is through or rejected.

    A stage whose version, settings or predecessors changed runs again, and all after it. An InputError of a stage is a
    rejection like any other: a bad clip costs itself only.
    """
    candidate, done = load(folder), dict[str, str]()
    before = candidate.facts["cut"]["version"]
    for stage in stages:
        before = f"{before}/{stage.name} {stage.version}"
        is_done = candidate.done.get(stage.name) == before
        done[stage.name] = before
        if not is_done:
            candidate = _run(stage, candidate, done, folder)
        if candidate.reject is not None and candidate.reject.stage == stage.name:
            return candidate
    return candidate


def _run(stage: ClipStage, candidate: Candidate, done: dict[str, str], folder: Path) -> Candidate:
    """One stage, and its outcome on disk. What later stages once found is of other inputs now, and forgotten."""
    facts = {
        name: found for name, found in candidate.facts.items() if name == "cut" or (name in done and name != stage.name)
    }
    candidate = replace(candidate, facts=facts, reject=None)
    try:
        outcome = stage.run(candidate, folder)
    except Unplayable:
        raise
    except InputError as error:
        outcome = Reject(stage.name, str(error))
    candidate = replace(candidate, reject=outcome) if isinstance(outcome, Reject) else outcome
    candidate = replace(candidate, done=dict(done))
    save(candidate, folder)
    return candidate
