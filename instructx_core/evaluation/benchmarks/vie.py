"""VIE-Bench (A.1, Table 4): a manifest, or a folder of clips with their instructions -> items.

A manifest (.jsonl, .json, .csv) has `task`, `instruction`, `source` and, for reference edits, `reference`; `id`, and
`mask` (white where the edit may be), where it has one. A folder has TASK/ID.mp4 with the instruction in TASK/ID.txt and
a reference in TASK/ID.png or .jpg. Paths are relative to the manifest. Tasks go by our names or by those of Tables 3
and 4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ...data.record import EditRecord
from ...errors import InputError
from ...media.base import IMAGE_SUFFIXES
from .reading import CLIPS, Download, TableRow, check_ids, table_rows
from .tasks import VIE_COUNTS, VIE_ROWS, check_counts, check_task

MANIFESTS = ("manifest.jsonl", "manifest.json", "manifest.csv", "items.jsonl")
ALIASES = {
    "object swap": "swap",
    "swap change": "swap",
    "swap": "swap",
    "color change": "color",
    "colour change": "color",
    "style change": "style",
    "tone change": "tone",
    "tone weather change": "tone",
    "weather change": "tone",
    "hybrid edit": "hybrid",
    "reference base swap": "reference_swap",
    "ref base swap": "reference_swap",
    "reference base add": "reference_add",
    "ref base add": "reference_add",
    **{task.replace("_", " "): task for task in VIE_COUNTS},
}


def read_vie(download: Download) -> list[EditRecord]:
    """Raises InputError for an unknown task, a source that is a picture, a missing reference, and counts that are not
    Table 4's."""
    place = download.place
    if place.is_dir() and not any((place / name).is_file() for name in MANIFESTS):
        items = _from_folder(download)
    else:
        manifest = download.find(*MANIFESTS)
        items = [_item(download, manifest.parent, row, number) for number, row in enumerate(table_rows(manifest))]
    check_counts("VIE-Bench", items, VIE_COUNTS, download.partial)
    return check_ids(items)


def task_named(where: str, name: object) -> str:
    """Our name of a task. Raises InputError for one that VIE-Bench does not have."""
    if not isinstance(name, str):
        return check_task(where, name, VIE_COUNTS)
    words = " ".join(re.sub(r"[^a-z]+", " ", name.lower()).split())
    return check_task(where, ALIASES.get(words, name), VIE_COUNTS)


def _item(download: Download, folder: Path, row: TableRow, number: int) -> EditRecord:
    task = task_named(row.where, row.values.get("task"))
    files = {name: folder / row.text(name) for name in ("source", "reference", "mask") if row.values.get(name)}
    files["source"] = folder / row.clip("source", "VIE-Bench")
    return _record(download, _identity(row) or f"{task}-{number:03}", task, row.text("instruction"), files)


def _identity(row: TableRow) -> str | None:
    """What the row is called, None where it has no name. Raises InputError for what is no name."""
    for column in ("id", "key"):
        value = row.values.get(column)
        if value is None or value == "":
            continue
        if type(value) not in (str, int):
            raise InputError(f"{row.where}: {column} is {value!r:.80}; it must be a text or a whole number")
        return str(value)
    return None


def _record(download: Download, identity: str, task: str, instruction: str, files: Mapping[str, Path]) -> EditRecord:
    """files: source, and reference and mask where there are some."""
    if task.startswith("reference") and "reference" not in files:
        raise InputError(f"item {identity}: a {task} without a reference picture; complete the download")
    return EditRecord(
        id=identity,
        task=task,
        modality="video",
        instruction=instruction.strip(),
        meta={"group": VIE_ROWS[task]},
        **{name: download.locator(path) for name, path in files.items()},
    )


def _from_folder(download: Download) -> list[EditRecord]:
    items = []
    for folder in sorted(path for path in download.place.iterdir() if path.is_dir() and path.name[0] != "."):
        task = task_named(str(folder), folder.name)
        for clip in sorted(path for path in folder.iterdir() if path.suffix.lower() in CLIPS):
            words = clip.with_suffix(".txt")
            try:
                instruction = words.read_text(encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{clip}: its instruction {words.name} cannot be read ({error})") from None
            pictures = [p for p in sorted(folder.glob(f"{clip.stem}.*")) if p.suffix.lower() in IMAGE_SUFFIXES]
            files = {"source": clip, **({"reference": pictures[0]} if pictures else {})}
            items.append(_record(download, f"{task}/{clip.stem}", task, instruction, files))
    if not items:
        names = " or ".join(MANIFESTS[:3])
        raise InputError(f"{download.place}: no {names}, and no clips in folders named by task; see docs/evaluation.md")
    return items


def vie_layout(item: EditRecord) -> str:
    """Ours, as the authors' is not published with their code: TASK/ID.mp4."""
    return f"{item.task}/{item.id.split('/')[-1]}.mp4"
