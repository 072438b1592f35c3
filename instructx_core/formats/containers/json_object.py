"""JSON objects in files that others wrote: headers, indexes of shards, config.json. Bounded, and no name twice."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from ...errors import InputError, some

_CONFIG_LIMIT = 10_000_000  # bytes


def json_object(text: bytes) -> dict[str, Any]:
    """The object in the JSON of a header. Raises ValueError, in words for a message, when it is none."""
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except _TwiceError:
        raise
    except (ValueError, RecursionError):  # not UTF-8, no JSON, a number of thousands of digits
        raise ValueError("its header is no JSON") from None
    if not isinstance(value, dict):
        raise ValueError("its header is no table")
    return value


class _TwiceError(ValueError):
    """A name appears twice in one object."""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = dict(pairs)
    if len(names) < len(pairs):
        twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        raise _TwiceError(f"{some(twice)} appears twice")
    return names


def read_json(file: Path) -> dict[str, Any]:
    """The object in a config.json. Raises InputError when there is none, or it is too large to be a config."""
    where = f"{file.parent.name}/{file.name}"
    try:
        if file.stat().st_size > _CONFIG_LIMIT:
            raise ValueError(f"{file.stat().st_size / 1e6:.0f} MB are no config")
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{where} cannot be read ({error}); download it again") from None
    if not isinstance(value, dict):
        raise InputError(f"{where} holds no JSON object; download it again")
    return value
