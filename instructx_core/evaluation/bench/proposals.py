"""proposals.jsonl: what a model proposed for each clip, one JSON line a clip; the link between propose and curate.

    {"clip": "../clips/dog.mp4", "name": "dog", "status": "ok", "proposals": [{"task": "add", "instruction": ".."}], ..}

Paths are relative to the file. A clip without proposals has a status that says why, and is asked about again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..benchmarks.tasks import VIE_COUNTS
from ..lines import check_names, read_lines

PROPOSALS = "proposals.jsonl"
STATUSES = ("ok", "unparsed", "refused", "unreadable")


@dataclass(frozen=True, slots=True)
class Proposal:
    """One instruction. task: of VIE-Bench."""

    task: str
    instruction: str


@dataclass(frozen=True, slots=True)
class ClipProposals:
    """Of one clip. name: in ids. reason: why there are none. size: (H, W), seconds: 0 where it cannot be read.

    attempts: every reply of the model word for word. reference: the picture of reference edits.
    """

    clip: str
    name: str
    status: str
    proposals: Sequence[Proposal] = ()
    reason: str = ""
    size: tuple[int, int] = (0, 0)
    seconds: float = 0.0
    reference: str | None = None
    model: str = ""
    prompt_sha256: str = ""
    attempts: Sequence[Mapping[str, Any]] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise InputError(f"status is {self.status!r:.40}; use one of {', '.join(STATUSES)}")
        for each in self.proposals:
            if each.task not in VIE_COUNTS or not isinstance(each.instruction, str) or not each.instruction.strip():
                raise InputError(f"{each!r:.120} is no proposal; it needs a task of {', '.join(VIE_COUNTS)} and a text")

    def identity(self, number: int) -> str:
        """Of one proposal, and of the item that it becomes."""
        return f"{self.name}-{number + 1}"

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def read_proposals(path: Path) -> dict[str, ClipProposals]:
    """name -> the last line of each clip. Raises InputError with the line that is wrong."""
    names = [each.name for each in dataclasses.fields(ClipProposals)]
    found: dict[str, ClipProposals] = {}
    for number, values in read_lines(path):
        where = f"{path}: line {number}"
        check_names(where, values, names, ("clip", "name", "status"))
        try:
            proposals = tuple(Proposal(**each) for each in values.pop("proposals", []))
            line = ClipProposals(**{**values, "size": tuple(values.get("size", (0, 0)))}, proposals=proposals)
        except TypeError:
            raise InputError(f"{where}: holds what is no proposal; remove the line and propose again") from None
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        found[line.name] = line
    return found
