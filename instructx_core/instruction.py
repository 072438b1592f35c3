"""What an instruction may be: the one check, for the pipeline, edits of files, jobs, the command line and the nodes.

Beside config and geometry. Needs nothing but the standard library, so that a wrong instruction is refused
before a model is loaded.
"""

from __future__ import annotations

from typing import Any

from .errors import InputError


def check_instruction(text: Any, allow_empty: bool = False) -> str:
    """The instruction itself. Raises InputError for anything but a str of whole characters that says something.

    allow_empty: "" is the unconditional branch of guidance.
    """
    if not isinstance(text, str):
        raise InputError(f"the instruction is {_short(text)}, of type {type(text).__name__}; it must be one str")
    if not text.strip():
        if allow_empty:
            return text
        raise InputError('the instruction is empty; say what to change, e.g. "make the circle blue"')
    broken = next((place for place, character in enumerate(text) if "\ud800" <= character <= "\udfff"), None)
    if broken is not None:
        raise InputError(
            f"the instruction has half a character (lone surrogate U+{ord(text[broken]):04X}) at position {broken}; "
            "remove it, or read the text as UTF-8"
        )
    if not any(character.isalnum() for character in text):
        raise InputError(
            f"the instruction {_short(text)} has no letter and no digit in any script, so there is nothing to read; "
            'say what to change in words, e.g. "make the circle blue"'
        )
    return text


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
