"""The sentences and words of a language, read once from data/*.json: what can be said, and which of it is held out.

Place: data -> lexicon -> names, manner, sentence. A line is a wording of a change, a frame around it ("could you {}?"),
a lead or a trail (own sentences before and after) or a joint of two clauses. Every fifth line is held out: only "test"
shows it. Its words are all known from other lines, so what is tested is the sentence, not a new word.
Uses of wordings: "imperative" (fits every frame and joint), "alone" (its "it" would be unclear beside another clause),
"statement" (a whole sentence).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

LANGUAGES = ("en", "zh")
HELD_OUT_EVERY, HELD_OUT_AT = 5, 2
FILLERS = ("frames", "leads", "trails", "joints")
DATA = Path(__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class Line:
    """One pattern of a sentence or a part of one."""

    name: str  # e.g. "remove/3", "frames/12"
    text: str
    use: str
    held_out: bool


def _read(name: str) -> dict[str, Any]:
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


def _lines(section: str, groups: dict[str, list[str]]) -> tuple[Line, ...]:
    texts = [(use, text) for use, group in groups.items() for text in group]
    return tuple(
        Line(f"{section}/{number}", text, use, number % HELD_OUT_EVERY == HELD_OUT_AT)
        for number, (use, text) in enumerate(texts)
    )


@cache
def words(language: str) -> dict[str, Any]:
    """Names of shapes, colours, places, grounds and other nouns; the first of a list is the plain one."""
    return _read(f"words_{language}")


@cache
def sections(language: str) -> dict[str, tuple[Line, ...]]:
    """All lines: of every kind of change, and those of FILLERS."""
    found = {**_read(f"wordings_{language}"), **_read(f"fillers_{language}")}
    return {section: _lines(section, groups) for section, groups in found.items()}


@cache
def lines(language: str, section: str, uses: tuple[str, ...], held_out: bool) -> tuple[Line, ...]:
    """The lines of a section with one of these uses, either the held-out or the other ones."""
    return tuple(line for line in sections(language)[section] if line.use in uses and line.held_out == held_out)
