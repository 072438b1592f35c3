"""Files that hold one JSON object: settings, keys of studies, results of checks.

Place: beside lines.py, which reads files of many.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import InputError

REWRITE = "write it again or remove it"


def read_object(path: Path, remedy: str = "give the file as it was written") -> dict[str, Any]:
    """Raises InputError, with the remedy, for a file that cannot be read or holds anything else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON ({error}); {remedy}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: is no JSON object; {remedy}")
    return values
