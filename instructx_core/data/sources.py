"""Every data source by its name. What a recipe or `--data` names is a spec: NAME or NAME:PATH, or the path of a set.

A new source is one line here: a function of what comes after the colon, "" for nothing. It refuses what it cannot use.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..errors import InputError
from .opening import FORMATS, open_path
from .shapes import open_shapes
from .source import EditSource
from .world import open_world

SOURCES: dict[str, Callable[[str], EditSource]] = {
    "shapes": open_shapes,
    "world": open_world,
    "mixture": partial(open_path, "mixture"),
    **{name: partial(open_path, name) for name in FORMATS},
}


def open_data(spec: str) -> EditSource:
    """Raises InputError for an unknown name, and for what comes after it where the source cannot use that."""
    name, _, rest = spec.partition(":")
    if name in SOURCES:
        return SOURCES[name](rest)
    if Path(spec).exists():
        return open_path("", spec)
    raise InputError(
        f"no file and no data source {name!r}; known: {', '.join(SOURCES)}. Give NAME, NAME:PATH, or the path of "
        "a mixture, a records.jsonl or a folder of pairs"
    )
