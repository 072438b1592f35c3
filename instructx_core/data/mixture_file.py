"""A mixture file (TOML) -> Mixture. Every name in it is checked: a word that nobody reads is an error.

First step of data from files; docs/data.md has an example. Paths are relative to the file.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from .mixture import Mixture, MixtureSet
from .sizing import Sizing

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_RULES = [field.name for field in dataclasses.fields(Sizing)]
_TOP = ["name", "validation", "max_rejects", *_RULES, "set"]
_SET = [field.name for field in dataclasses.fields(MixtureSet)]
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("name", "path", "format"), (str,)),
    **dict.fromkeys(("weight", "validation", "max_rejects", "max_cut"), (float, int)),
    **dict.fromkeys(("tasks", "but", "frames", "instructions"), (list,)),
    **dict.fromkeys(("keep", "best", "columns"), (dict,)),
    **dict.fromkeys(("image_pixels", "video_pixels", "reference_pixels", "multiple", "fps"), (int,)),
}
_SAID = {str: "text in quotes", float: "a number", int: "a whole number", list: "a list", dict: "a table { ... }"}
_INSIDE: dict[str, tuple[type, ...]] = {"tasks": (str,), "but": (str,), "frames": (int,), "keep": (str,)}
_INSIDE |= {"best": (float, int), "instructions": (str,)}


def read_mixture(path: Path) -> Mixture:
    """Raises InputError for a file that is no mixture, with the name of what is wrong in it."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not TOML ({error}); docs/data.md has an example") from None
    try:
        return _mixture(values, path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _mixture(values: Mapping[str, Any], path: Path) -> Mixture:
    _check(values, _TOP, "a mixture")
    listed = values.get("set", [])
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise InputError("set is no list of tables; write [[set]] above each set")
    rules = {name: tuple(values[name]) if name == "frames" else values[name] for name in _RULES if name in values}
    own = {name: values[name] for name in ("validation", "max_rejects") if name in values}
    sets = tuple(_set(each, path.parent) for each in listed)
    return Mixture(values.get("name", path.stem), sets, Sizing(**rules), **own)


def _set(values: Mapping[str, Any], folder: Path) -> MixtureSet:
    _check(values, _SET, f"set {values.get('name', values.get('path', ''))}")
    if "path" not in values:
        raise InputError("a [[set]] without path; name its file or folder")
    place = folder / values["path"]
    if not place.exists():
        raise InputError(f"set {place}: no such file or folder; paths are relative to the mixture")
    name = values.get("name") or (place.parent.name if place.name == "records.jsonl" else place.stem)
    lists = {each: tuple(values[each]) for each in ("tasks", "but", "instructions") if each in values}
    rest = {each: values[each] for each in ("format", "weight", "keep", "best", "columns", "mirror") if each in values}
    return MixtureSet(place, name, **lists, **rest)


def _check(values: Mapping[str, Any], known: list[str], what: str) -> None:
    for name, value in values.items():
        if name not in known:
            raise InputError(f"{what} has an unknown {name!r}; known: {', '.join(known)}")
        kinds = _KINDS.get(name)
        if kinds is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
            raise InputError(f"{what}: {name} is {value!r:.60}; it must be {_SAID[kinds[0]]}")
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        for each in inside if name in _INSIDE else ():
            if not isinstance(each, _INSIDE[name]) or isinstance(each, bool):
                raise InputError(f"{what}: {name} holds {each!r:.60}; it must be {_SAID[_INSIDE[name][0]]}")
