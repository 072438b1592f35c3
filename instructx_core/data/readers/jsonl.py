"""records.jsonl: one record a line, ours to write and to read. Paths in it are relative to the file.

A line that is no record is a reject with its number; the rest of the file is read.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...media.outputs import atomic_path
from ..record import MEDIA, EditRecord, Locator, from_json
from ..record.rejects import RejectedRecord

NAME = "records.jsonl"


def read_records(path: Path) -> Iterator[EditRecord | RejectedRecord]:
    """Raises InputError when the file cannot be read."""
    for number, line in enumerate(text_lines(path), start=1):
        where = f"{path}:{number}"
        try:
            values = parse(line)
        except InputError as error:
            yield RejectedRecord(f"line {number}", str(error), where)
            continue
        try:
            yield moved(from_json(values), path.parent)
        except InputError as error:
            named = values.get("id") if isinstance(values, dict) else None
            yield RejectedRecord(str(named or f"line {number}"), str(error), where)


def text_lines(path: Path) -> Iterator[str]:
    """Lines that are not blank; they end with a line feed alone, since U+2028 may stand in an instruction."""
    try:
        with path.open("rb") as file:
            for raw in file:
                text = raw.decode("utf-8-sig", "surrogateescape").strip()
                if text:
                    yield text
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def parse(text: str) -> Any:
    """One JSON value. Raises InputError for text that is none, NaN included."""
    try:
        text.encode("utf-8")
        return json.loads(text, parse_constant=_constant)
    except UnicodeEncodeError:
        raise InputError("is not UTF-8; save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not JSON ({error}); write one object a line") from None


def _constant(name: str) -> float:
    raise InputError(f"holds {name}, which is no JSON; write a number or leave the field out")


def moved(record: EditRecord, folder: Path) -> EditRecord:
    """The record with its media's paths taken from `folder`, where they are relative."""

    def placed(locator: Locator) -> Locator:
        return dataclasses.replace(locator, path=os.path.normpath(folder / locator.path))

    media = {name: getattr(record, name) for name in MEDIA}
    return dataclasses.replace(record, **{name: placed(each) for name, each in media.items() if each is not None})


def write_records(path: Path, records: Iterable[EditRecord]) -> int:
    """How many were written. Media below the file's folder get relative paths, others absolute ones."""
    folder, count = path.parent.absolute(), 0

    def placed(locator: Locator) -> Locator:
        place = Path(os.path.abspath(locator.path))
        inside = place.relative_to(folder).as_posix() if place.is_relative_to(folder) else str(place)
        return dataclasses.replace(locator, path=inside)

    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for record in records:
            media = {name: getattr(record, name) for name in MEDIA}
            media = {name: placed(each) for name, each in media.items() if each is not None}
            line = json.dumps(dataclasses.replace(record, **media).as_json(), ensure_ascii=False, allow_nan=False)
            file.write(f"{line}\n")
            count += 1
    return count
