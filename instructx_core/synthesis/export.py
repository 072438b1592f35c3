"""Candidates that came through -> records for training: records.jsonl with its media beside it.

Last step. Written anew from the candidates' states each time, so it needs no memory of its own. The film is the
target of every pair but "remove": a model that is trained on these learns to draw what a camera saw (paper A.2).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.record import EditRecord, Locator
from ..media.outputs import atomic_path
from .candidate import Candidate
from .clip import CHANGED, CLIP, ERASED
from .limits import Limits
from .stages.fingerprint import distance
from .stages.recolour import RECOLOURED
from .stages.reference import REFERENCE

RECORDS, MEDIA = "records.jsonl", "media"
PAIRS = {  # task: source, target
    "remove": (CLIP, ERASED),
    "add": (ERASED, CLIP),
    "change_color": (RECOLOURED, CLIP),
    "reference_add": (ERASED, CLIP),
}


@dataclass(frozen=True, slots=True)
class Exported:
    """How many records of each task were written, and which candidates were left out as copies of which."""

    tasks: dict[str, int]
    copies: dict[str, str]


def export(candidates: Sequence[Candidate], work: Path, output: Path, limits: Limits) -> Exported:
    """Writes records and links (or copies) their media. Of clips that look alike the first by id is kept."""
    passed = sorted((each for each in candidates if each.reject is None), key=lambda each: each.id)
    copies = find_copies(passed, limits.alike)
    tasks = dict.fromkeys(PAIRS, 0)
    (output / MEDIA).mkdir(parents=True, exist_ok=True)
    with atomic_path(output / RECORDS) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for candidate in passed:
            if candidate.id in copies:
                continue
            for record in records_of(candidate):
                for name in ("source", "target", "reference", "mask"):
                    _place(getattr(record, name), work / candidate.id, output)
                tasks[record.task] += 1
                stream.write(json.dumps(record.as_json()) + "\n")
    return Exported(tasks, copies)


def records_of(candidate: Candidate) -> Iterator[EditRecord]:
    """Every pair of a candidate, with where it comes from and what was measured."""
    for task, text in candidate.fact("instruct", "texts").items():
        source, target = PAIRS[task]
        yield EditRecord(
            id=f"{candidate.id}-{task}",
            task=task,
            modality="video",
            instruction=text,
            source=_media(candidate, source),
            target=_media(candidate, target),
            reference=_media(candidate, REFERENCE) if task == "reference_add" else None,
            mask=_media(candidate, CHANGED),
            meta={
                "film": candidate.film,
                "start": candidate.start,
                "stop": candidate.stop,
                "stages": dict(candidate.done),
                "facts": {stage: dict(found) for stage, found in candidate.facts.items() if stage != "instruct"},
            },
        )


def find_copies(passed: Sequence[Candidate], alike: int) -> dict[str, str]:
    """The ids of clips that look like an earlier one, and that one's."""
    copies, kept = dict[str, str](), list[Candidate]()
    for candidate in passed:
        bits = candidate.fact("fingerprint", "bits")
        twin = next((other for other in kept if distance(bits, other.fact("fingerprint", "bits")) <= alike), None)
        if twin is None:
            kept.append(candidate)
        else:
            copies[candidate.id] = twin.id
    return copies


def _media(candidate: Candidate, name: str) -> Locator:
    return Locator(f"{MEDIA}/{candidate.id}.{name}")


def _place(locator: Locator | None, folder: Path, output: Path) -> None:
    """The media under its name in the set: a second name of the same file where the disk can, else a copy."""
    if locator is None:
        return
    target = output / locator.path
    source = folder / target.name.removeprefix(f"{folder.name}.")
    if target.exists() and target.stat().st_mtime_ns == source.stat().st_mtime_ns:
        return
    with atomic_path(target) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copy2(source, temporary)
