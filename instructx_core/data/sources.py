"""Every data source by the name that a recipe gives it (Recipe.data). A new source is one line here."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import InputError
from .source import EditSource
from .world import ShapesWorld

SOURCES: dict[str, Callable[[], EditSource]] = {"shapes": ShapesWorld}


def open_source(name: str) -> EditSource:
    """Raises InputError for an unknown name."""
    if name not in SOURCES:
        raise InputError(f"no data source {name!r}; known: {', '.join(SOURCES)}")
    return SOURCES[name]()
