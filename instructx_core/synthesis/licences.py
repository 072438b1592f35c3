"""Which licences let a record be trained on, and what is known of a film's.

Place: cast.py, films -> licences -> the command (before any work), export.py (in every record). What a licence says is
looked up by its name, as model cards and SPDX write it; an unknown name is kept in the record and lets pass.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Collection, Mapping
from pathlib import Path

from ..errors import InputError
from .cast import Casting

FILE = "licences.json"  # beside the films: {"film.mp4": "CC-BY-4.0", "*": "CC0-1.0"}
UNSTATED = "unstated"
FORBID = (  # patterns of names in small letters: no derivatives, no commerce, no training of others
    "*-nc*",
    "*noncommercial*",
    "*non-commercial*",
    "*-nd*",
    "flux-1-dev*",
    "flux*dev*",
    "s-lab*",
    "all rights reserved",
    "proprietary",
    "research-only*",
)
KNOWN = {  # of the weights that the kinds of player are usually given; the cast file's word counts more
    "grounding-dino": "Apache-2.0",
    "sam2": "Apache-2.0",
    "raft": "BSD-3-Clause",
    "vitpose": "Apache-2.0",
    "rtmlib": "Apache-2.0",
    "kontext": "flux-1-dev-non-commercial-license",
    "vace": "Apache-2.0",
    "animate": "Apache-2.0",
}
OURS = ("motion", "plate", "dis", "templates")  # code of this package: nothing that a licence could forbid


def forbids(licence: str) -> bool:
    """Whether records made with it may not be trained on."""
    return any(fnmatch.fnmatch(licence.lower(), pattern) for pattern in FORBID)


def licences_of(casting: Casting) -> dict[str, str]:
    """Of every player that has weights or is not ours, by role."""
    found = dict[str, str]()
    for role, player in casting.players:
        if player.by in OURS:
            continue
        shipped = "Apache-2.0" if player.by == "instructx" and not player.weights else UNSTATED
        found[role] = player.licence or KNOWN.get(player.by, shipped)
    return found


def check_licences(casting: Casting, allowed: Collection[str]) -> None:
    """Raises InputError naming the role and the licence that forbids training, unless that licence is allowed."""
    for role, licence in licences_of(casting).items():
        if forbids(licence) and licence not in allowed:
            raise InputError(
                f"{role}: the licence {licence} forbids training on what is made with it; cast another player, give "
                f"the licence that you have in the cast file, or say --allow-licence {licence}"
            )


def read_film_licences(place: Path) -> Mapping[str, str]:
    """Of the films at a place, by name; "*" for all others. Empty without a file of them."""
    folder = place if place.is_dir() else place.parent
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: is no JSON ({error}); give an object of film and licence") from None
    if not isinstance(values, dict) or not all(isinstance(value, str) and value for value in values.values()):
        raise InputError(f'{path}: is no object of film and licence; give JSON like {{"film.mp4": "CC-BY-4.0"}}')
    return values


def film_licence(name: str, licences: Mapping[str, str]) -> str:
    return licences.get(name, licences.get("*", UNSTATED))
