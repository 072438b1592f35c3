"""GEdit-Bench: the parquet or arrow files of its release -> items; its pictures are unpacked into the run's folder.

11 groups, each instruction in English and in Chinese. Outputs lie where the authors' scripts look for them:
MODEL/fullset/GROUP/LANGUAGE/KEY.png with the source beside it as KEY_SRCIMG.png.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from ...data.record import EditRecord, Locator
from ...errors import InputError
from ...media.outputs import atomic_path, make_folder
from .reading import Download, TableRow, check_ids, columns
from .tasks import check_task

GROUPS = (
    "background_change",
    "color_alter",
    "material_alter",
    "motion_change",
    "ps_human",
    "style_change",
    "subject-add",
    "subject-remove",
    "subject-replace",
    "text_change",
    "tone_transfer",
)
LANGUAGES = ("en", "cn")
JPEG = b"\xff\xd8"


def read_gedit(download: Download) -> list[EditRecord]:
    """Raises InputError for an unknown group or language, for a row without its picture, and where groups are missing.

    An item of one language alone is taken: what the release holds by language is not published with its code.
    """
    folder = make_folder(download.folder / "media")
    items = check_ids([_item(folder, row) for row in columns(download.place)])
    missing = [group for group in GROUPS if group not in {item.task for item in items}]
    if missing and not download.partial:
        raise InputError(f"GEdit-Bench: no item of {', '.join(missing)}; complete the download, or give --partial")
    return items


def _item(folder: Path, row: TableRow) -> EditRecord:
    task, key = check_task(row.where, row.values.get("task_type"), GROUPS), str(row.values.get("key") or "")
    language = row.values.get("instruction_language")
    if language not in LANGUAGES:
        raise InputError(f"{row.where}: instruction_language is {language!r:.40}; use one of {', '.join(LANGUAGES)}")
    if not key or set(key) & set('/\\:*?"<>|'):
        raise InputError(f"{row.where}: key is {key!r:.80}; it must be the name of a file")
    intersection = row.values.get("Intersection_exist")
    if not isinstance(intersection, bool):
        raise InputError(f"{row.where}: Intersection_exist is {intersection!r:.40}; it must be true or false")
    return EditRecord(
        id=f"{task}/{language}/{key}",
        task=task,
        modality="image",
        instruction=row.text("instruction"),
        source=Locator(f"media/{_unpack(folder, key, row)}"),
        meta={"group": task, "language": language, "intersection": intersection, "key": key},
    )


def _unpack(folder: Path, key: str, row: TableRow) -> str:
    """Writes `input_image`, which the authors' scripts show the judge; its name. One picture is one file."""
    cell = row.values.get("input_image")
    data = cell.get("bytes") if isinstance(cell, Mapping) else cell
    if not isinstance(data, bytes) or not data:
        raise InputError(f"{row.where}: input_image holds no picture; download the files that hold the bytes")
    ending = ".jpg" if data.startswith(JPEG) else ".png"
    name = f"{key}-{hashlib.sha256(data).hexdigest()[:8]}{ending}"
    place = folder / name
    if not (place.is_file() and place.read_bytes() == data):
        with atomic_path(place) as temporary:
            temporary.write_bytes(data)
    return name


def gedit_layout(item: EditRecord) -> str:
    return f"fullset/{item.task}/{item.meta['language']}/{item.meta['key']}.png"


def gedit_source_layout(item: EditRecord) -> str:
    return gedit_layout(item).removesuffix(".png") + "_SRCIMG.png"
