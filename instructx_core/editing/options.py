"""An edit in plain values, as the command line and a line of a list of jobs write it -> EditRequest.

    {"input": "in.mp4", "instruction": "make it blue", "output": "out.mp4", "reference": ["cup.png"], "seed": 3, ...}

Names and types of the options are those of the fields of EditRequest, KeepOutside and WindowOptions, so that a new
field is an option everywhere; WRITTEN lists those that people write in another form.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any

from ..errors import InputError
from ..fields import check_type, field_types
from .paste import AUTO, KeepOutside
from .request import PLACES, EditRequest
from .windows.options import WindowOptions

GROUPS = {"keep_outside": KeepOutside, "windows": WindowOptions}


def parse_size(text: str) -> dict[str, Any]:
    """'832x480' -> its area in pixels. Raises InputError for anything else."""
    match = re.fullmatch(r"(\d+)x(\d+)", text.strip().lower())
    if match is None or 0 in (int(match[1]), int(match[2])):
        raise InputError(f"--size {text!r} is not a size; write WIDTHxHEIGHT, e.g. 832x480")
    return {"max_pixels": int(match[1]) * int(match[2])}


def parse_window(text: str) -> dict[str, Any]:
    """'81' -> {"frames": 81}; '5s' -> {"seconds": 5.0}. Raises InputError for anything else."""
    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)s", text.strip().lower())
    if match is None:
        raise InputError(f"--window {text!r} is no length; write seconds as 5s, or frames as 81")
    return {"frames": int(match[1])} if match[1] else {"seconds": float(match[2])}


def parse_mask(text: str) -> dict[str, Any]:
    """'auto' or the path of a mask."""
    return {"mask": None if text == AUTO else Path(text)}


@dataclass(frozen=True, slots=True)
class Form:
    """How people write some fields as one text. parse: the text -> values of the fields."""

    fields: tuple[str, ...]
    parse: Callable[[str], dict[str, Any]]


WRITTEN = {
    "size": Form(("max_pixels",), parse_size),
    "window": Form(("frames", "seconds"), parse_window),
    "keep_outside": Form(("mask",), parse_mask),
}


@cache
def option_types() -> dict[str, tuple[type, ...]]:
    """Every option by the name it is written with -> the types that its value may have."""
    types: dict[str, tuple[type, ...]] = {}
    for name, kinds in field_types(EditRequest).items():
        if name in GROUPS:
            types |= field_types(GROUPS[name])
        elif name not in PLACES:
            types[name] = kinds
    for name, form in WRITTEN.items():
        types = {key: value for key, value in types.items() if key not in form.fields} | {name: (str,)}
    return {name: tuple(kind for kind in kinds if kind is not NoneType) for name, kinds in types.items()}


def read_request(values: Mapping[str, object], folder: Path = Path()) -> EditRequest:
    """The request that plain values ask for. folder: what relative paths start from.

    An option of a group asks for the group: overlap for windows. Switches that are off are as if not given. Raises
    InputError for an unknown name, a wrong type or a wrong value.
    """
    for name in ("input", "instruction", "output"):
        if not isinstance(values.get(name), str):
            raise InputError(f"{name} is {values.get(name)!r}; it must be a string")
    references = values.get("reference", [])
    references = [references] if isinstance(references, str) else references
    if not isinstance(references, list) or not all(isinstance(name, str) for name in references):
        raise InputError(f"reference is {references!r}; give a path or a list of paths")
    named = {"input": [values["input"]], "output": [values["output"]], "reference": references}
    named["keep_outside"] = [values.get("keep_outside")]
    for name, paths in named.items():
        if "" in paths:
            raise InputError(f"{name} is empty; give the path of a file")
    plain = {
        name: value for name, value in values.items() if name not in ("input", "instruction", "output", "reference")
    }
    return EditRequest(
        source=folder / str(values["input"]),
        instruction=str(values["instruction"]),
        output=folder / str(values["output"]),
        references=tuple(folder / name for name in references),
        **_options(plain, folder),
    )


def _options(plain: Mapping[str, object], folder: Path) -> dict[str, Any]:
    """Plain options -> fields of EditRequest."""
    _check_types(plain)
    given: dict[str, Any] = {}
    for name, value in plain.items():
        if name in WRITTEN:
            given |= WRITTEN[name].parse(str(value))
        elif value is not False:
            given[name] = value
    if "feather" in given and "mask" not in given:
        raise InputError("--feather needs --keep-outside; give a mask or auto")
    if given.get("mask") is not None:
        given["mask"] = folder / given["mask"]
    for name, group in GROUPS.items():
        inner = {f.name: given.pop(f.name) for f in dataclasses.fields(group) if f.name in given}
        if inner:
            given[name] = group(**inner)
    return given


def _check_types(plain: Mapping[str, object]) -> None:
    types = option_types()
    for name, value in plain.items():
        if name not in types:
            raise InputError(f"{name} is no option of a job; use {', '.join(types)}")
        check_type(name, value, types[name], "instructx edit --help")
