"""OpenVE-Bench (benchmark_videos.csv) and RefVIE-Bench (refvie_bench.yaml): tables beside folders of clips -> items.

OpenVE: 431 edits of eight types; outputs are told to its scripts by a CSV with `edited_result_path`. RefVIE: edits by a
reference picture, of a subject or a background; outputs are named by number, instruction and clip.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from ...data.record import EditRecord
from ...errors import InputError
from ..judge.by_lines import OPENVE, REFVIE
from .reading import Download, check_ids, table_rows
from .tasks import check_task

OPENVE_TYPES = tuple(OPENVE)
OPENVE_COUNT = 431
REFVIE_TYPES = tuple(REFVIE)


def read_openve(download: Download) -> list[EditRecord]:
    """Raises InputError for an unknown type, a picture for a clip, and another number of items than 431."""
    manifest = download.find("benchmark_videos.csv", "OpenVE-Bench/benchmark_videos.csv")
    items = []
    for row in table_rows(manifest):
        task = check_task(row.where, row.values.get("edited_type"), OPENVE_TYPES)
        video = row.clip("original_video", "OpenVE-Bench")
        places = [manifest.parent / video, manifest.parent.parent / video]  # the scripts let the user say which
        source = next((place for place in places if place.is_file()), places[0])
        item = EditRecord(
            id=PurePosixPath(video).stem,
            task=task,
            modality="video",
            instruction=row.text("prompt"),
            source=download.locator(source),
            meta={"group": task, "row": {name: str(value) for name, value in row.values.items() if name}},
        )
        items.append(item)
    if len(items) != OPENVE_COUNT and not download.partial:
        raise InputError(f"OpenVE-Bench: {len(items)} items instead of {OPENVE_COUNT}; give --partial for a part of it")
    return check_ids(items)


def openve_layout(item: EditRecord) -> str:
    return f"{item.id}_edited.mp4"


def openve_row(item: EditRecord, path: str) -> dict[str, str]:
    """The row of new_result.csv."""
    row: Mapping[str, str] = item.meta["row"]
    return {**row, "edited_result_path": path}


def read_refvie(download: Download) -> list[EditRecord]:
    """Raises InputError for an unknown type and a picture for a clip."""
    manifest = download.find("refvie_bench.yaml")
    items = []
    for number, row in enumerate(table_rows(manifest)):
        task = check_task(row.where, row.values.get("edit_type"), REFVIE_TYPES)
        video = row.clip("src_video", "RefVIE-Bench")
        item = EditRecord(
            id=f"{number:03}-{PurePosixPath(video).stem}",
            task=task,
            modality="video",
            instruction=row.text("instruction"),
            source=download.locator(manifest.parent / video),
            reference=download.locator(manifest.parent / row.text("ref_img")),
            meta={"group": task, "number": number, "video": PurePosixPath(video).name},
        )
        items.append(item)
    if not items:
        raise InputError(f"{manifest}: holds no item; download it again")
    return check_ids(items)


def refvie_layout(item: EditRecord) -> str:
    """As Kiwi-Edit's script names it: the first ten letters of the instruction are part of the name."""
    return f"{item.meta['number']}_{item.instruction[:10]}_{item.meta['video']}"
