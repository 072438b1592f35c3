"""items.jsonl: the items of a benchmark, as records of edits without a target; the first link of the chain.

benchmarks (what the authors ship) -> items -> editor -> outputs -> judge -> scores. An item is an EditRecord
(data/record/); what is a benchmark's own (group, language, counts) is in its meta. Paths are relative to the file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ..data.record import EditRecord, Locator, from_json
from ..errors import InputError, some
from ..media.names import folded_name
from ..media.outputs import atomic_path
from .lines import read_lines

ITEMS = "items.jsonl"


class ItemIds:
    """Ids of items, each a file name of its own on any disk."""

    def __init__(self) -> None:
        self._taken: dict[str, str] = {}  # as a disk may fold it -> as it is

    def add(self, name: str) -> None:
        """Raises InputError for one that is there, and for one that some disk takes for another."""
        other = self._taken.get(folded_name(name))
        if other == name:
            raise InputError(f"item {name} is there already; each needs an id of its own")
        if other is not None:
            raise InputError(
                f"item {name} is item {other} to a disk that knows no letter case (Windows, macOS), where both would "
                "have one output; rename one"
            )
        self._taken[folded_name(name)] = name


def read_items(path: str | Path) -> list[EditRecord]:
    """Every item, in the order of the file.

    Raises InputError with the line that is wrong, and for two of one id or of ids that some disk takes for one.
    """
    found: dict[str, EditRecord] = {}
    ids = ItemIds()
    for number, values in read_lines(path, is_whole=True):
        try:
            item = from_json(values)
        except InputError as error:
            raise InputError(f"{path}: line {number}: {error}") from None
        try:
            ids.add(item.id)
        except InputError as error:
            raise InputError(f"{path}: line {number}: {error}") from None
        found[item.id] = item
    if not found:
        raise InputError(f"{path}: holds no item; write one JSON object a line")
    return list(found.values())


def write_items(path: str | Path, items: Iterable[EditRecord]) -> None:
    """The whole file, atomically."""
    with atomic_path(path) as temporary:
        lines = (json.dumps(item.as_json(), ensure_ascii=False) + "\n" for item in items)
        temporary.write_text("".join(lines), encoding="utf-8", newline="\n")


def media_path(item: EditRecord, name: str, folder: Path) -> Path | None:
    """Where the source, target, reference or mask of an item lies; None where it has none. folder: of items.jsonl.

    Raises InputError for one inside of a tar or a parquet, which has to be unpacked first.
    """
    locator: Locator | None = getattr(item, name)
    if locator is None:
        return None
    if locator.member is not None or locator.row is not None:
        raise InputError(f"item {item.id}: its {name} is inside of {locator}; unpack it into a file first")
    return folder / locator.path


def missing_media(items: Iterable[EditRecord], folder: Path) -> list[str]:
    """'id: source x.mp4' of every picture or clip that does not lie where its item says."""
    return [
        f"{item.id}: {name} {path}"
        for item in items
        for name in ("source", "reference", "mask", "target")
        if (path := media_path(item, name, folder)) is not None and not path.is_file()
    ]


def check_items(items: Iterable[EditRecord], folder: Path) -> None:
    """Raises InputError where media are missing, naming some and their number."""
    missing = missing_media(items, folder)
    if missing:
        raise InputError(f"{len(missing)} files of the items are not there: {some(missing)}; complete the download")


def count_tasks(items: Iterable[EditRecord]) -> dict[str, int]:
    """Number of items a task, in the order of their first."""
    return dict(Counter(item.task for item in items))


def first_of_each(items: Iterable[EditRecord], limit: int | None) -> list[EditRecord]:
    """The first `limit` items of each task, all for None. Raises InputError for a limit below 1."""
    if limit is not None and limit < 1:
        raise InputError(f"limit is {limit}; use at least 1")
    taken, found = Counter[str](), list[EditRecord]()
    for item in items:
        taken[item.task] += 1
        if limit is None or taken[item.task] <= limit:
            found.append(item)
    return found
