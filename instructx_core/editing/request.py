"""What is asked for: one edit from file to file, as the library, the command line and a list of jobs fill it.

First step of an edit: request -> look (files, no model) -> settings (the model's defaults) -> one piece or windows ->
report. A new option of an edit is a new field here; options.py gives it to the command line and to lists of jobs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict

from ..digests import file_digest
from ..errors import InputError
from ..fields import NO_RESULT, check_fields, check_seed, check_type
from ..instruction import check_instruction
from ..media.kinds import check_file
from .paste import KeepOutside
from .windows.options import WindowOptions

NOTHING: Mapping[str, object] = MappingProxyType({})
PLACES = ("source", "instruction", "output", "references")  # what an edit is of; all other fields are options


@dataclass(frozen=True, slots=True, kw_only=True)
class EditRequest:
    """An edit of an image or a clip on disk. The output's suffix must fit the source's kind.

    references: pictures that the instruction refers to. steps, guidance: default to the model's. max_pixels: area of a
    frame that the model works at, default by model; the result has that size. max_frames: edit in one piece, and refuse
    a longer clip. partial: of a damaged or cut off clip, edit what can be read. need_sound: refuse a clip of whose
    sound some cannot be kept. keep_outside: lay the edit over the source at its full size, exact outside of a mask
    (paste.py). windows: edit the clip in windows; without it that happens to clips of more frames than the model was
    made for.
    Raises InputError for a value of another type, and for one that no file and no model could make right.
    """

    source: Path
    instruction: str
    output: Path
    references: tuple[Path, ...] = ()
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    max_pixels: int | None = None
    max_frames: int | None = None
    partial: bool = False
    need_sound: bool = dataclasses.field(default=False, metadata={NO_RESULT: True})
    keep_outside: KeepOutside | None = None
    windows: WindowOptions | None = None

    def __post_init__(self) -> None:
        check_instruction(self.instruction)
        check_fields(self)
        for path in self.references:
            check_type("a reference", path, (Path,), "EditRequest")
        check_seed(self.seed)
        if self.steps is not None and self.steps < 1:
            raise InputError(f"steps is {self.steps}; use at least 1")
        if self.max_pixels is not None and self.max_pixels < 1:
            raise InputError(f"the size is {self.max_pixels} pixels; it must be positive")
        if self.max_frames is not None and self.max_frames < 1:
            raise InputError(f"max_frames is {self.max_frames}; use at least 1")
        if self.windows is not None and self.max_frames is not None:
            raise InputError("windows and max_frames are both given; max_frames edits in one piece: give one of them")

    def content_key(self, model: str, source_digest: str | None = None) -> str:
        """Changes with the bytes of any input file, with any option and with the model; not with names and dates.

        model: identifies it (jobs.model_key). source_digest: of the source's file, where it is known. Raises
        InputError for a file that cannot be read.
        """
        options = contents(self, dict.fromkeys(PLACES))
        options = {name: value for name, value in options.items() if name not in PLACES}
        files = [source_digest or file_digest(self.source), *map(_content, self.references)]
        parts = [model, self.instruction, self.output.suffix, *files, options]
        if self.need_sound:  # the same result; but what was finished without it was not refused
            parts.append("need_sound")
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class EditOptions(TypedDict, total=False):
    """The options of EditRequest as keywords, for type checkers; a test holds the two together."""

    steps: int | None
    guidance: float | None
    seed: int
    max_pixels: int | None
    max_frames: int | None
    partial: bool
    need_sound: bool
    keep_outside: KeepOutside | None
    windows: WindowOptions | None


def contents(
    options: EditRequest | KeepOutside | WindowOptions, known: Mapping[str, object] = NOTHING
) -> dict[str, Any]:
    """Every field that changes the result, as JSON takes it: of a file its digest. known: what stands for some."""
    fields = (f for f in dataclasses.fields(options) if not f.metadata.get(NO_RESULT))
    return {f.name: known[f.name] if f.name in known else _content(getattr(options, f.name)) for f in fields}


def _content(value: object) -> object:
    if isinstance(value, KeepOutside | WindowOptions):
        return contents(value)
    if isinstance(value, Path):
        check_file(value)  # a folder or an address by its name, before it is read as bytes
        return file_digest(value)
    return value
