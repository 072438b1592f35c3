"""The prompts of other benchmarks, read from the user's checkout of their repositories; none of them is shipped here.

Place: a file of theirs -> words -> protocols. A file of code is parsed, never run: its constants that are plain text.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

from ...errors import InputError


def file_below(folder: Path, name: str, repository: str) -> Path:
    """The file of that name in a checkout, wherever in it. Raises InputError where there is none, or several differ."""
    if folder.is_file() and folder.name == name:
        return folder
    found = sorted(path for path in folder.rglob(name) if path.is_file())
    if not found:
        raise InputError(f"{folder}: no {name} in it; give --prompts a checkout of {repository}")
    if len({path.read_bytes() for path in found}) > 1:
        places = ", ".join(str(path.relative_to(folder)) for path in found[:3])
        raise InputError(f"{folder}: several {name} that differ ({places}); give --prompts the folder of one of them")
    return found[0]


def text_constants(path: Path) -> dict[str, str]:
    """NAME -> text of every `NAME = "text"` at the top of a Python file."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8-sig").lstrip(), str(path))  # OpenVE's begins with a space
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as Python ({error}); check the checkout") from None
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def wanted(path: Path, names: dict[str, str], found: dict[str, str]) -> dict[str, str]:
    """Of the constants found those that are wanted, under our names for them. Raises InputError for a missing one."""
    missing = [name for name in names.values() if name not in found]
    if missing:
        raise InputError(f"{path}: has no text {missing[0]}; another version of it is needed")
    return {ours: found[theirs] for ours, theirs in names.items()}


def json_texts(path: Path) -> dict[str, str]:
    """An object of texts. Raises InputError for anything else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); check the checkout") from None
    if not isinstance(values, dict) or not all(isinstance(text, str) for text in values.values()):
        raise InputError(f"{path}: is no object of texts; check the checkout")
    return values
