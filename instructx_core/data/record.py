"""EditRecord: one edit as a file says it, before anything is decoded. The one object of data, evaluation, synthesis.

Readers of public sets make records, training and the cache read them, a benchmark's items are records without a target,
synthesis writes them. On disk a record is one JSON object (records.jsonl); paths in it are relative to that file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import InputError

Modality = Literal["image", "video"]
MODALITIES: tuple[Modality, ...] = ("image", "video")
MEDIA = ("source", "target", "reference", "mask")


@dataclass(frozen=True, slots=True)
class Locator:
    """Where the bytes of a picture or clip are: a file, a member of a tar, or a cell of a parquet file.

    path: of the file, the tar or the parquet. member: name in the tar. row, column: the cell's, row from 0.
    """

    path: str
    member: str | None = None
    row: int | None = None
    column: str | None = None

    def __post_init__(self) -> None:
        if not self.path:
            raise InputError("a locator without a path; name the file that holds the picture or clip")
        if (self.row is None) != (self.column is None) or (self.member is not None and self.row is not None):
            raise InputError(f"{self}: give a file, a file with `member`, or one with both `row` and `column`")

    def __str__(self) -> str:
        if self.member is not None:
            return f"{self.path}:{self.member}"
        return self.path if self.row is None else f"{self.path}:{self.column}[{self.row}]"

    def as_json(self) -> str | dict[str, Any]:
        """The path alone where it says all, else an object of what is set."""
        if self.member is None and self.row is None:
            return self.path
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class EditRecord:
    """An instruction, what it is said of, and what came or should come of it.

    task: the kind of edit in the set's own words. target: None for an item of a
    benchmark. mask: white where the edit is.
    meta: what else is known, in JSON values (scores, captions, times in the film, licence, versions).
    """

    id: str
    task: str
    modality: Modality
    instruction: str
    source: Locator
    target: Locator | None = None
    reference: Locator | None = None
    mask: Locator | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.id.strip():
            raise InputError("a record without an id; give each its own")
        if self.modality not in MODALITIES:
            raise InputError(f"record {self.id}: modality {self.modality!r}; use one of {', '.join(MODALITIES)}")
        if not self.instruction.strip():
            raise InputError(f"record {self.id}: the instruction is empty; say what is to be edited")

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads; fields that are not set are left out."""
        values: dict[str, Any] = {name.name: getattr(self, name.name) for name in dataclasses.fields(self)}
        media = {name: values[name].as_json() for name in MEDIA if values[name] is not None}
        rest = {name: value for name, value in values.items() if name not in MEDIA and name != "meta"}
        return rest | media | ({"meta": dict(self.meta)} if self.meta else {})


def from_json(values: object) -> EditRecord:
    """A record of `as_json`'s values. Raises InputError with the field, what it holds and what it should."""
    if not isinstance(values, Mapping):
        raise InputError(f"a record is a JSON object, not {type(values).__name__}")
    names = [name.name for name in dataclasses.fields(EditRecord)]
    named = f"record {values.get('id', 'without id')!s:.80}"
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise InputError(f"{named}: unknown field {unknown[0]!r}; a record has {', '.join(names)}")
    missing = [name for name in ("id", "task", "modality", "instruction", "source") if values.get(name) is None]
    if missing:
        raise InputError(f"{named}: no {missing[0]!r}; a record needs id, task, modality, instruction and source")
    for name in ("id", "task", "modality", "instruction"):
        if not isinstance(values[name], str):
            raise InputError(f"{named}: {name} is {values[name]!r:.80}; it must be a string")
    if not isinstance(values.get("meta", {}), Mapping):
        raise InputError(f"{named}: meta is {values['meta']!r:.80}; it must be an object")
    media = {name: _locator(named, name, values[name]) for name in MEDIA if values.get(name) is not None}
    return EditRecord(**{name: value for name, value in values.items() if name not in MEDIA} | media)


def _locator(named: str, name: str, value: object) -> Locator:
    if isinstance(value, str):
        return Locator(value)
    if not isinstance(value, Mapping) or not isinstance(value.get("path"), str):
        raise InputError(f"{named}: {name} is {value!r:.80}; give a path, or an object with one")
    unknown = sorted(set(value) - {"path", "member", "row", "column"})
    if unknown:
        raise InputError(f"{named}: {name} has an unknown field {unknown[0]!r}; use path, member, row, column")
    row = value.get("row")
    if row is not None and (type(row) is not int or row < 0):
        raise InputError(f"{named}: the row of {name} is {row!r:.80}; rows are whole numbers from 0")
    return Locator(value["path"], value.get("member"), row, value.get("column"))
