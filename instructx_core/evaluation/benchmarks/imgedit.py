"""ImgEdit-Bench, the basic suite: basic_edit.json and the folder of its pictures -> items.

737 edits of nine types; the paper's mean is of eight, without `extract`. Outputs lie in one folder as KEY.png.
"""

from __future__ import annotations

from ...data.record import EditRecord
from ...errors import InputError
from .reading import Download, check_ids, table_rows
from .tasks import check_counts, check_task

COUNTS = {
    "adjust": 94,
    "remove": 86,
    "replace": 92,
    "add": 95,
    "style": 100,
    "compose": 23,
    "background": 94,
    "action": 36,
    "extract": 117,
}
NAMES = ("basic_edit.json", "singleturn.json")  # in the repository; beside the pictures of the release


def read_imgedit(download: Download) -> list[EditRecord]:
    """Raises InputError for an unknown type and for counts that are not the benchmark's."""
    manifest = download.find(*NAMES, *(f"{folder}/{name}" for folder in ("singleturn", "Basic") for name in NAMES))
    items = []
    for row in table_rows(manifest):
        key, task = row.values.get("key"), check_task(row.where, row.values.get("edit_type"), COUNTS)
        if not isinstance(key, str):
            raise InputError(f"{manifest}: is no object by key; check that it is the benchmark's file")
        item = EditRecord(
            id=key,
            task=task,
            modality="image",
            instruction=row.text("prompt"),
            source=download.locator(manifest.parent / row.text("id")),
            meta={"group": task},
        )
        items.append(item)
    check_counts("ImgEdit-Bench", items, COUNTS, download.partial)
    return check_ids(items)


def imgedit_layout(item: EditRecord) -> str:
    return f"{item.id}.png"
