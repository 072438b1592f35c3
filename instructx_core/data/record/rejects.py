"""Records that cannot be used, each with its reason: a reader, a look at the media and decoding find them.

They go to rejects.jsonl; too many of them stop the run, since a mistake in paths or columns makes all of them bad.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ...media.outputs import atomic_path

MOST = 0.05  # share of a set's records that may be bad


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """id: of the record, or what stands for it where it has none. where: file and line that it comes from."""

    id: str
    reason: str
    where: str = ""


def write_rejects(path: Path, rejects: Sequence[RejectedRecord]) -> None:
    """One JSON object a line; the file appears whole."""
    with atomic_path(path) as temporary:
        lines = [json.dumps(dataclasses.asdict(each), ensure_ascii=False) for each in rejects]
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def check_share(name: str, rejects: Sequence[RejectedRecord], total: int, most: float = MOST) -> None:
    """Raises InputError where more than `most` of `total` records are bad, with the first reason."""
    if len(rejects) > most * total:
        raise InputError(
            f"{name}: {len(rejects)} of {total} records cannot be used, more than {most:.0%}; the first is "
            f"{rejects[0].id}: {rejects[0].reason}. `instructx data check` lists all of them; mend them, or raise "
            "max_rejects in the mixture"
        )
