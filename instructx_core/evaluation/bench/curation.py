"""Proposals -> a page on which people choose among them -> their decisions -> the manifest of a benchmark.

Place: propose -> curation -> benchmarks/vie.py. The page needs no server: decisions are kept in the browser as they are
made and saved as a file. Table 4's counts are the target that the page and the manifest's maker show.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError, some
from ...media.outputs import atomic_path
from ...pages.assemble import write_page
from ...pages.embed import PageMedia, Rendition, embed
from ..benchmarks.tasks import VIE_COUNTS
from ..objects import read_object
from .proposals import PROPOSALS, ClipProposals, read_proposals
from .propose import relative

HERE = Path(__file__).parent
KIND = "instructx curation"
CURATED = Rendition(side=480, quality=80, crf=26)
TITLES = {
    "swap": "object swap",
    "color": "color change",
    "add": "add",
    "remove": "remove",
    "style": "style change",
    "tone": "tone / weather change",
    "hybrid": "hybrid edit",
    "reference_swap": "reference base swap",
    "reference_add": "reference base add",
}


@dataclass(frozen=True, slots=True)
class Decision:
    """On one proposal. verdict: accept, reject, or "" where there is none yet. proposed: the model's own wording."""

    verdict: str
    task: str
    instruction: str
    proposed: str


def proposed_clips(folder: Path) -> list[ClipProposals]:
    """Clips with proposals. Raises InputError where there are none."""
    path = folder / PROPOSALS
    if not path.is_file():
        raise InputError(f"{folder}: no {PROPOSALS}; make proposals first: instructx bench propose")
    found = [line for line in read_proposals(path).values() if line.status == "ok"]
    if not found:
        raise InputError(f"{path}: no clip has proposals; run instructx bench propose again")
    return found


def write_curation_page(path: Path, folder: Path, title: str, rendition: Rendition = CURATED) -> int:
    """Write the page; returns its bytes of media. Raises InputError for a clip or reference that cannot be read."""
    lines, files = proposed_clips(folder), list[Path]()

    def medium(name: str) -> int:
        file = folder / name
        if file not in files:
            files.append(file)
        return files.index(file)

    clips = []
    for line in lines:
        clip: dict[str, Any] = {"name": line.name, "size": list(line.size), "seconds": line.seconds}
        clip["media"] = medium(line.clip)
        if line.reference is not None:
            clip["reference"] = medium(line.reference)
        clip["proposals"] = [
            {"id": line.identity(number), "task": each.task, "instruction": each.instruction}
            for number, each in enumerate(line.proposals)
        ]
        clips.append(clip)
    media: list[dict[str, Any]] = []
    data = {
        "bench": hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12],  # more clips: the same curation
        "title": title,
        "targets": dict(VIE_COUNTS),
        "titles": TITLES,
        "clips": clips,
        "media": media,
    }
    embedded = _embedded(files, rendition, media)
    return write_page(path, title, data, embedded, [HERE / "curate.css"], [HERE / "curate.js"])


def _embedded(files: Sequence[Path], rendition: Rendition, media: list[dict[str, Any]]) -> Iterator[PageMedia]:
    for number, file in enumerate(files):
        each = embed(file, rendition)
        media.append({"number": number, "kind": each.kind, "size": list(each.size), "seconds": each.seconds})
        yield each


def read_decisions(path: Path) -> dict[str, Decision]:
    """proposal -> decision. Raises InputError for a file that the page did not save."""
    values = read_object(path, "give the file that the page saved")
    if values.get("kind") != KIND or not isinstance(values.get("decisions"), dict):
        raise InputError(f"{path}: holds no decisions; give the file that the page of instructx bench curate saved")
    found = {}
    for name, each in values["decisions"].items():
        try:
            decision = Decision(**each)
        except TypeError:
            raise InputError(f"{path}: {name} is {each!r:.80}, no decision; save the file again") from None
        texts = (decision.verdict, decision.task, decision.instruction, decision.proposed)
        if not all(isinstance(text, str) for text in texts) or decision.task not in VIE_COUNTS:
            raise InputError(f"{path}: {name} is {each!r:.80}, no decision; save the file again")
        found[name] = decision
    return found


def join_decisions(files: Sequence[Path]) -> dict[str, Decision]:
    """Of several people who shared the work. Raises InputError where two decided one proposal otherwise."""
    found: dict[str, tuple[Path, Decision]] = {}
    for path in files:
        for name, decision in read_decisions(path).items():
            if not decision.verdict:
                continue
            other = found.setdefault(name, (path, decision))
            if other[1] != decision:
                raise InputError(f"{path} and {other[0]} decide {name} otherwise; change one of them on the page")
    return {name: decision for name, (_, decision) in found.items()}


def write_manifest(path: Path, folder: Path, decisions: Mapping[str, Decision]) -> dict[str, int]:
    """What was accepted, as VIE-Bench's adapter reads it; returns the number of each task. folder: of the proposals.

    Raises InputError for a decision on what was never proposed, without an accepted one, and where nothing can be
    written.
    """
    rows, unknown = list[dict[str, Any]](), set(decisions)
    for line in proposed_clips(folder):
        for number, proposal in enumerate(line.proposals):
            name = line.identity(number)
            decision = decisions.get(name)
            if decision is None or decision.proposed != proposal.instruction:
                continue
            unknown.discard(name)
            if decision.verdict == "accept":
                rows.append(_row(path, folder, line, name, decision))
    if unknown:
        raise InputError(f"decisions on {some(unknown)}, which {folder / PROPOSALS} has not; give its own curation")
    if not rows:
        raise InputError("nothing was accepted; accept proposals on the page, and save its file")
    with atomic_path(path) as temporary:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return {**dict.fromkeys(VIE_COUNTS, 0), **Counter(row["task"] for row in rows)}


def _row(path: Path, folder: Path, line: ClipProposals, name: str, decision: Decision) -> dict[str, Any]:
    needs = decision.task.startswith("reference")
    if needs and line.reference is None:
        raise InputError(f"{name}: a {decision.task} of a clip without a reference picture; give it another kind")
    if not decision.instruction.strip():
        raise InputError(f"{name}: accepted without a word; write its instruction on the page")
    row = {"id": name, "task": decision.task, "instruction": " ".join(decision.instruction.split())}
    row["source"] = relative(folder / line.clip, path.parent)
    if needs and line.reference is not None:
        row["reference"] = relative(folder / line.reference, path.parent)
    return {**row, "proposed": decision.proposed, "model": line.model}
