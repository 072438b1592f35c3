"""Names of results and of the hidden files beside them: what a link means, what a file system can hold.

Below outputs.py, which writes there.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from pathlib import Path

from ..errors import InputError

USUAL_LENGTH = 255  # bytes of a name, where the system does not tell
# Names that Windows keeps for devices, with any suffix, and what it does not have in a name at all.
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3]) *(\..*)?", re.IGNORECASE)
_SIGNS = re.compile(r'[<>:"|?*\x00-\x1f]')


def output_place(path: Path) -> Path:
    """The file that is meant by a path: of a link its target, which need not be there. Raises InputError for links in
    a circle."""
    if not os.path.islink(path):
        return path
    place = Path(os.path.realpath(path))
    if os.path.islink(place):
        raise InputError(f"{path}: is a link that leads back to itself; name a file")
    return place


def folded_name(name: str) -> str:
    """Equal for any two names that some file system takes for one: by letter case, by composition."""
    return unicodedata.normalize("NFKC", name).casefold()


def hidden_beside(path: Path, ending: str) -> Path:
    """A hidden file beside `path`: .NAME and the ending; where that is longer than names may be, .DIGEST and it."""
    place = output_place(path)
    name = f".{place.name}{ending}"
    if _length(name) > _longest(place.parent):
        name = f".{hashlib.sha256(os.fsencode(place.name)).hexdigest()[:16]}{ending}"
    return place.with_name(name)


def check_name(path: Path) -> None:
    """Raises InputError for a name that this system cannot give to a file."""
    place = output_place(path)
    longest = _longest(place.parent)
    if _length(place.name) > longest:
        raise InputError(f"{path}: its name has {_length(place.name)} bytes, {longest} are possible here; shorten it")
    reason = no_windows_name(place.name) if os.name == "nt" else None
    if reason is not None:
        raise InputError(f"{path}: {reason}; choose another name")


def no_windows_name(name: str) -> str | None:
    """Why Windows has no file of this name, or would write it under another one; None where it can."""
    if _DEVICES.fullmatch(name):
        return f"Windows keeps the name {name.split('.')[0].strip()} for a device"
    if name != name.rstrip(". "):
        return "Windows drops a dot or a space at the end of a name"
    sign = _SIGNS.search(name)
    return None if sign is None else f"Windows has no {sign[0]!r} in names"


def _length(name: str) -> int:
    return len(name.encode("utf-16-le", "surrogatepass")) // 2 if os.name == "nt" else len(os.fsencode(name))


def _longest(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # Windows; a folder that is not there
        return USUAL_LENGTH
