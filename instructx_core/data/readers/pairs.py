"""A plain folder of pairs -> records: an artist's own before and after, without a file that lists them.

Media: NAME_source.png with NAME_target.png (or NAME_before, NAME_after; also with - or .), or folders source and
target (before, after) with equal names; reference and mask in the same way. Instruction: NAME.txt, or one
instruction.txt for all. The task is the folder's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ...errors import InputError
from ..record import EditRecord, Locator
from ..record.rejects import RejectedRecord
from .columns import MOVING

WORDS = {"source": "source", "before": "source", "target": "target", "after": "target"}
WORDS |= {"reference": "reference", "mask": "mask"}
COMMON = "instruction.txt"
_NAMED = re.compile(rf"(?P<name>.+)[_.-](?P<word>{'|'.join(WORDS)})", re.IGNORECASE)
_TEXT = (".txt", ".csv", ".json", ".jsonl", ".toml", ".md")


def read_pairs(folder: Path, instruction: str | None = None) -> Iterator[EditRecord | RejectedRecord]:
    """In the order of the names. instruction: of all pairs, whatever the folder says.

    Raises InputError for a folder without any pair.
    """
    found: dict[str, dict[str, Path]] = {}
    twice: list[RejectedRecord] = []
    for path in _files(folder):
        named = _name_of(path, folder)
        if named is None:
            continue
        name, word = named
        first = found.setdefault(name, {}).setdefault(word, path)
        if first != path:
            twice.append(
                RejectedRecord(name, f"two files are its {word}: {first.name} and {path.name}; keep one", str(folder))
            )
    if not any({"source", "target"} <= media.keys() for media in found.values()):
        raise InputError(
            f"{folder}: holds no pair; name files NAME_source.png and NAME_target.png, or put them under equal names "
            "into source/ and target/"
        )
    yield from twice
    common = _text(folder / COMMON) if instruction is None else None
    bad = {each.id for each in twice}
    for name, media in found.items():
        if name not in bad:
            yield _record(folder, name, media, instruction, common)


def is_pairs(folder: Path) -> bool:
    """Whether a file or folder in it has a name of this layout."""
    return any(_name_of(path, folder) for path in _files(folder))


def _files(folder: Path) -> list[Path]:
    """Of the folder itself and of those in it that are named by a word of WORDS."""
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}); give a folder of pairs") from None
    places = [place for place in inside if place.is_dir() and place.name.lower() in WORDS]
    found = [*inside, *(path for place in places for path in sorted(place.iterdir()))]
    return [path for path in found if path.is_file() and path.name[0] != "." and path.suffix.lower() not in _TEXT]


def _name_of(path: Path, folder: Path) -> tuple[str, str] | None:
    """(name of the pair, what the file is of it)."""
    if path.parent != folder:
        return path.stem, WORDS[path.parent.name.lower()]
    match = _NAMED.fullmatch(path.stem)
    return (match["name"], WORDS[match["word"].lower()]) if match else None


def _record(
    folder: Path, name: str, media: dict[str, Path], instruction: str | None, common: str | None
) -> EditRecord | RejectedRecord:
    try:
        for word in ("source", "target"):
            if word not in media:
                raise InputError(f"it has no {word}; add {name}_{word} beside its other file")
        words = instruction or _instruction(folder, name, media, common)
        moving = media["source"].suffix.lower() in MOVING
        places = {word: Locator(str(path)) for word, path in media.items()}
        return EditRecord(name, folder.name or "edit", "video" if moving else "image", words, **places)
    except InputError as error:
        return RejectedRecord(name, str(error), str(folder))


def _instruction(folder: Path, name: str, media: dict[str, Path], common: str | None) -> str:
    """Of NAME.txt, in the folder or beside one of the media, else the common one."""
    found = _text(folder / f"{name}.txt")
    for place in {path.parent for path in media.values()}:
        found = _text(place / f"{name}.txt") if found is None else found
    found = common if found is None else found
    if found is None:
        raise InputError(f"it has no instruction; write {name}.txt, or one {COMMON} for all")
    return found


def _text(path: Path) -> str | None:
    """None where there is no such file."""
    try:
        return path.read_bytes().decode("utf-8-sig").strip() if path.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error}); save it as UTF-8") from None
