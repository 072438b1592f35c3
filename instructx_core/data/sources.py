"""Every data source by its name. What a recipe or `--data` names is a spec: NAME or NAME:PATH, e.g. of a folder.

A new source is one line here: a function of what comes after the colon, "" for nothing. It refuses what it cannot use.
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import InputError
from .shapes import open_shapes
from .source import EditSource
from .world import open_world

SOURCES: dict[str, Callable[[str], EditSource]] = {"shapes": open_shapes, "world": open_world}


def open_data(spec: str) -> EditSource:
    """Raises InputError for an unknown name, and for what comes after it where the source cannot use that."""
    name, _, rest = spec.partition(":")
    if name not in SOURCES:
        raise InputError(f"no data source {name!r}; known: {', '.join(SOURCES)}. Give NAME or NAME:PATH")
    return SOURCES[name](rest)
