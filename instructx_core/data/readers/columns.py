"""ColumnMap: which columns of a set say what, so that a set is read as it ships. A row -> a record.

Between rows.py, which gives rows of tables and tars, and opening.py. A column is named as the set names it; a name with
dots goes into nested values: "conversations.0.value".
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from ...errors import InputError, some
from ...media.base import VIDEO_SUFFIXES
from ..record import MODALITIES, EditRecord, Locator

MOVING = (*VIDEO_SUFFIXES, ".webm", ".avi", ".gif", ".m4v")


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """Columns of source, target and instruction, and of what else a set has, "" for what it has not.

    An instruction that is a list gives the first and the others as wordings. files: which tables of a folder.
    media: folder of the media beside the table. modality: "" to tell from names. checked: the names were read in the
    set's own pages or in code that reads it; False: from memory, give your own where a set says otherwise.
    """

    source: str
    target: str
    instruction: str
    task: str = ""
    reference: str = ""
    mask: str = ""
    id: str = ""
    wordings: str = ""
    caption: str = ""
    files: str = "**/*.json"
    media: str = ""
    modality: str = ""
    checked: bool = False

    def changed(self, columns: Mapping[str, Any]) -> ColumnMap:
        """With other names. Raises InputError for what is no part of a map."""
        known = [field.name for field in dataclasses.fields(self) if field.name != "checked"]
        for name, value in columns.items():
            if name not in known:
                raise InputError(f"columns has an unknown {name!r}; a map has {', '.join(known)}")
            if not isinstance(value, str):
                raise InputError(f"columns.{name} is {value!r:.60}; give the name of a column")
        return dataclasses.replace(self, **columns)

    @property
    def needed(self) -> tuple[str, ...]:
        return self.source, self.target, self.instruction


@dataclass(frozen=True, slots=True)
class SetRow:
    """values: by column; pictures and clips inside a tar or a parquet are locators. name: where no column has an id."""

    values: Mapping[str, Any]
    name: str
    folder: str


def as_record(row: SetRow, columns: ColumnMap) -> EditRecord:
    """Raises InputError for a row that has no record's values, with the column."""
    for name in columns.needed:
        if find(row.values, name) is None:
            raise InputError(f"no {name!r}; its columns are {some([str(each) for each in row.values], 12)}")
    media = {
        each: found
        for each in ("source", "target", "reference", "mask")
        if (found := _media(row, getattr(columns, each), columns.media)) is not None
    }
    text = find(row.values, columns.instruction)
    wordings = [*(text[1:] if isinstance(text, list) else ()), *_texts(find(row.values, columns.wordings))]
    instruction = text[0] if isinstance(text, list) and text else text
    if not isinstance(instruction, str):
        raise InputError(f"{columns.instruction} is {instruction!r:.60}; an instruction is text")
    task, caption = find(row.values, columns.task), find(row.values, columns.caption)
    meta = _rest(row.values, columns)
    meta |= {"wordings": wordings} if wordings else {}
    meta |= {"caption": caption} if isinstance(caption, str) and caption else {}
    return EditRecord(
        id=str(find(row.values, columns.id) or row.name),
        task=str(task) if task else "edit",
        modality=columns.modality or _modality(row, media["source"]),
        instruction=instruction.replace("<image>", "").replace("<video>", "").strip(),
        meta=meta,
        **media,
    )


def find(values: Mapping[str, Any], name: str) -> Any:
    """The value of a column, None where there is none."""
    if not name:
        return None
    if name in values:
        return values[name]
    found: Any = values
    for part in name.split("."):
        if isinstance(found, Mapping):
            found = found.get(part)
        elif isinstance(found, list) and part.isdigit():
            found = found[int(part)] if int(part) < len(found) else None
        else:
            return None
    return found


def _media(row: SetRow, column: str, folder: str) -> Locator | None:
    value = find(row.values, column)
    if value is None or value == "" or isinstance(value, Locator):
        return value or None
    if not isinstance(value, str):
        raise InputError(f"{column} is {value!r:.60}; a picture or clip is a path, or bytes in a parquet or tar")
    return Locator(os.path.normpath(os.path.join(row.folder, folder, value)))


def _modality(row: SetRow, source: Locator) -> str:
    if row.values.get("modality") in MODALITIES:
        return row.values["modality"]
    name = source.member or source.path
    return "video" if source.row is None and PurePath(name).suffix.lower() in MOVING else "image"


def _texts(value: Any) -> list[str]:
    found = value if isinstance(value, list) else [value]
    return [each for each in found if isinstance(each, str) and each.strip()]


def _rest(values: Mapping[str, Any], columns: ColumnMap) -> dict[str, Any]:
    """Plain values of the other columns, scores among them."""
    used = {getattr(columns, field.name) for field in dataclasses.fields(columns)}
    used |= {"modality"} if values.get("modality") in MODALITIES else set()
    nested = values.get("meta")
    rest = dict(nested) if isinstance(nested, Mapping) else {}
    for name, value in values.items():
        if name not in used and isinstance(value, str | int | float | bool) and not _is_nan(value):
            rest[name] = value
    return rest


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
