"""What a field of options may hold, by its annotation: one table of types for library, command line and jobs.

Below the request of an edit and its groups of options, which check themselves with it, and editing/options.py, which
reads plain values.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from .errors import InputError

NO_RESULT = "no result"  # metadata of a field that does not change what an edit makes
MAX_SEED = 2**63
LARGEST = sys.float_info.max


@cache
def field_types(kind: type) -> dict[str, tuple[type, ...]]:
    """Every field of a dataclass -> the types that its value may have; NoneType among them where None is allowed."""
    return {name: _types(hint) for name, hint in get_type_hints(kind).items()}


def _types(hint: Any) -> tuple[type, ...]:
    """int | None -> (int, NoneType), tuple[Path, ...] -> (tuple,); a whole number may stand for any number."""
    if get_origin(hint) is tuple:
        return (tuple,)
    types = get_args(hint) or (hint,)
    return (int, *types) if float in types else types


def check_type(name: str, value: object, types: tuple[type, ...], see: str) -> None:
    """Raises InputError unless the value is of one of the types, and finite: True is no int. see: where it is told."""
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        wanted = " or ".join("None" if kind is NoneType else kind.__name__ for kind in types)
        raise InputError(f"{name} is {value!r}, a {type(value).__name__}, not {wanted}; see {see}")
    if isinstance(value, int | float) and float in types and not abs(value) <= LARGEST:
        raise InputError(f"{name} is {value!r}, not a finite number; see {see}")
    if isinstance(value, Path):
        _check_path(name, value)


def _check_path(name: str, path: Path) -> None:
    """Raises InputError for a name that no file can have."""
    try:
        impossible = "a NUL character" if b"\0" in os.fsencode(path) else ""
    except UnicodeEncodeError:
        impossible = "half a character (a lone surrogate)"
    if impossible:
        raise InputError(f"{name} is {str(path)!r}: no file has {impossible} in its name; check how it was written")


def check_fields(options: Any) -> None:
    """Raises InputError for a field of a dataclass that holds another type than its annotation says."""
    kind = type(options)
    for name, types in field_types(kind).items():
        check_type(name, getattr(options, name), types, kind.__name__)


def check_seed(seed: int) -> None:
    """Raises InputError for one that torch cannot take."""
    if not 0 <= seed < MAX_SEED:
        raise InputError(f"seed is {seed}; it must lie between 0 and 2^63 - 1")
