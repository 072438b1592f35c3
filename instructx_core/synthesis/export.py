"""Candidates that came through -> records for training: records.jsonl with its media beside it.

Last step. Written anew from the candidates' states each time, so it needs no memory of its own. The film is the
target of every pair but "remove": a model that is trained on these learns to draw what a camera saw (paper A.2).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.readers.jsonl import write_records
from ..data.record import EditRecord, Locator
from ..media.outputs import atomic_path
from .licences import film_licence, licences_of
from .setup import Setup
from .stages.fingerprint import distance
from .stages.reference import REFERENCE
from .terms.candidate import Candidate
from .terms.clip import CHANGED
from .terms.pairs import PAIRS, WITH_REFERENCE, said_of

RECORDS, MEDIA = "records.jsonl", "media"
BETWEEN = "."  # a candidate's id and the name of its file: ids hold no dot


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """How many records of each task were written, and which candidates were left out as copies of which."""

    tasks: dict[str, int]
    copies: dict[str, str]


def export(candidates: Sequence[Candidate], work: Path, output: Path, setup: Setup) -> ExportSummary:
    """Writes records and links (or copies) their media. Of clips that look alike the first by id is kept."""
    passed = sorted((each for each in candidates if each.reject is None), key=lambda each: each.id)
    copies = find_copies(passed, setup.limits.alike)
    (output / MEDIA).mkdir(parents=True, exist_ok=True)
    kept = [candidate for candidate in passed if candidate.id not in copies]
    records = [record for candidate in kept for record in records_of(candidate, output / MEDIA, setup)]
    for record in records:
        for locator in (record.source, record.target, record.reference, record.mask):
            _place(locator, work)
    write_records(output / RECORDS, records)
    return ExportSummary({task: sum(record.task == task for record in records) for task in PAIRS}, copies)


def records_of(candidate: Candidate, media: Path, setup: Setup) -> Iterator[EditRecord]:
    """Every pair of a candidate, with where it comes from and what was measured."""
    licence = film_licence(candidate.film, dict(setup.film_licences))
    for task, text in said_of(candidate).items():
        source, target = PAIRS[task]
        yield EditRecord(
            id=f"{candidate.id}-{task}",
            task=task,
            modality="video",
            instruction=text,
            source=_media(media, candidate, source),
            target=_media(media, candidate, target),
            reference=_media(media, candidate, REFERENCE) if task in WITH_REFERENCE else None,
            mask=_media(media, candidate, CHANGED),
            meta={
                "film": candidate.film,
                "start": candidate.start,
                "stop": candidate.stop,
                "licences": {"film": licence, **licences_of(setup.casting)},
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


def _media(folder: Path, candidate: Candidate, name: str) -> Locator:
    return Locator(str(folder / f"{candidate.id}{BETWEEN}{name}"))


def _place(locator: Locator | None, work: Path) -> None:
    """The media under its name in the set: a second name of the same file where the disk can, else a copy."""
    if locator is None:
        return
    target = Path(locator.path)
    folder, name = target.name.split(BETWEEN, 1)
    source = work / folder / name
    if target.exists() and target.stat().st_mtime_ns == source.stat().st_mtime_ns:
        return
    with atomic_path(target) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copy2(source, temporary)
