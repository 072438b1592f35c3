"""The form of a study: one HTML page that a rater opens from disk, rates, and sends back as a JSON file.

Place: plan, items, outputs -> form. The page knows items, codes and pictures, nothing of editors. The order of items
and of the results of each is drawn in the browser from the study and the rater's name; answers are kept there too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...data.record import EditRecord
from ...pages.assemble import write_page
from ...pages.embed import FULL, PageMedia, Rendition, embed
from ..items import media_path
from .plan import StudyPlan
from .questions import introduction, questions

HERE = Path(__file__).parent
KINDS = {frozenset({"image"}): "image", frozenset({"video"}): "video"}


def write_form(
    path: Path,
    plan: StudyPlan,
    items: Mapping[str, EditRecord],
    folder: Path,
    outputs: Mapping[str, Mapping[str, Path]],
    title: str = "Rating of edits",
    rendition: Rendition = FULL,
) -> int:
    """Write the page; returns its bytes of media. folder: of items.jsonl. outputs: editor -> item -> file.

    Raises InputError for a picture or clip that cannot be read, and for a page that grows too large.
    """
    files: list[Path] = []
    shown: list[dict[str, Any]] = []
    for number, codes in plan.codes.items():
        item = items[number]
        entry: dict[str, Any] = {"id": item.id, "instruction": item.instruction}
        for name in ("source", "reference"):
            file = media_path(item, name, folder)
            if file is not None:
                entry[name] = len(files)
                files.append(file)
        entry["results"] = []
        for code in sorted(codes):  # of hashes: an order that says nothing
            entry["results"].append({"code": code, "media": len(files)})
            files.append(outputs[codes[code]][item.id])
        shown.append(entry)
    kind = KINDS.get(frozenset(items[number].modality for number in plan.codes), "video or image")
    media: list[dict[str, Any]] = []
    data = {
        "study": plan.study,
        "title": title,
        "introduction": introduction(kind),
        "questions": [dataclasses.asdict(question) for question in questions(kind)],
        "items": shown,
        "media": media,
    }
    return write_page(path, title, data, _embedded(files, rendition, media), [HERE / "form.css"], [HERE / "form.js"])


def _embedded(files: list[Path], rendition: Rendition, media: list[dict[str, Any]]) -> Iterator[PageMedia]:
    """Each file for the page; what the page must know of it goes to `media`."""
    for number, file in enumerate(files):
        each = embed(file, rendition)
        media.append({"number": number, "kind": each.kind, "size": list(each.size), "seconds": each.seconds})
        yield each
