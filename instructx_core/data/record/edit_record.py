"""EditRecord: one edit as a file says it, before anything is decoded. The one object of data, evaluation, synthesis.

Readers of public sets make records, training and the cache read them, a benchmark's items are records without a target,
synthesis writes them. On disk a record is one JSON object (records.jsonl); paths in it are relative to that file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ...errors import InputError

Modality = Literal["image", "video"]
MODALITIES: tuple[Modality, ...] = ("image", "video")
MEDIA = ("source", "target", "reference", "mask")


@dataclass(frozen=True, slots=True)
class Locator:
    """Where the bytes of a picture or clip are: a file, a member of a tar, or a cell of a parquet file.

    path: of the file, the tar or the parquet. member: name in the tar. offset, size: of the member's bytes in the tar,
    where they are known; without, the tar is searched. row, column: the cell's, row from 0.
    """

    path: str
    member: str | None = None
    row: int | None = None
    column: str | None = None
    offset: int | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        if not self.path:
            raise InputError("a locator without a path; name the file that holds the picture or clip")
        if (self.row is None) != (self.column is None) or (self.member is not None and self.row is not None):
            raise InputError(f"{self}: give a file, a file with `member`, or one with both `row` and `column`")
        if (self.offset is None) != (self.size is None) or (self.offset is not None and self.member is None):
            raise InputError(f"{self}: `offset` and `size` are both of a `member` of a tar; give all three or none")

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
    meta: what else is known, in JSON values (scores, captions, times in the film, licence, versions). `wordings`: the
    instruction in other words, a list. `size`, `frames`, `fps`: [height, width], length and rate of source and target,
    so that they need not be opened to be sorted; `reference_size` of the reference.
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
        for name in ("id", "task", "instruction"):
            if any("\ud800" <= letter <= "\udfff" for letter in getattr(self, name)):
                raise InputError(f"record {self.id!a:.80}: {name} holds half of a character; write it as UTF-8")
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
    known = [each.name for each in dataclasses.fields(Locator)]
    unknown = sorted(set(value) - set(known))
    if unknown:
        raise InputError(f"{named}: {name} has an unknown field {unknown[0]!r}; use {', '.join(known)}")
    for each in ("row", "offset", "size"):
        number = value.get(each)
        if number is not None and (type(number) is not int or number < 0):
            raise InputError(f"{named}: the {each} of {name} is {number!r:.80}; {each}s are whole numbers from 0")
    for each in ("member", "column"):
        if not isinstance(value.get(each), str | None):
            raise InputError(f"{named}: the {each} of {name} is {value[each]!r:.80}; it must be a string")
    try:
        return Locator(**value)
    except InputError as error:
        raise InputError(f"{named}: {name}: {error}") from None
