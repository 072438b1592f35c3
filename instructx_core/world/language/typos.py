"""Typos: a letter dropped, doubled, swapped with the next one or hit on a neighbouring key, and one meaning kept.

Place: lexicon -> typos -> sentence. A typo is allowed only if no known word looks like that and no other known word
could have become it: what was meant can always be told. English only.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import numpy as np

from .lexicon import DATA

LEAST_LETTERS, SHORT = 3, 4
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_WORD = re.compile(r"[A-Za-z]+")


def _neighbours(letter: str) -> str:
    """Keys beside a letter, on a QWERTY keyboard."""
    row = next(row for row in _ROWS if letter in row)
    at = row.index(letter)
    return row[max(0, at - 1) : at] + row[at + 1 : at + 2]


def misspellings(word: str) -> set[str]:
    """All words one slip away; short ones keep their first letter."""
    found = set()
    for at in range(0 if len(word) > SHORT else 1, len(word)):
        found.add(word[:at] + word[at + 1 :])
        found.add(word[:at] + word[at] + word[at:])
        found.update(word[:at] + key + word[at + 1 :] for key in _neighbours(word[at]))
        if at + 1 < len(word):
            found.add(word[:at] + word[at + 1] + word[at] + word[at + 2 :])
    return found - {word}


@cache
def known_words() -> frozenset[str]:
    """Every English word of the world, in either spelling."""
    texts = (path.read_text(encoding="utf-8") for path in sorted(DATA.glob("*_en.json")))
    return frozenset(word for text in texts for word in _WORD.findall(text.lower()))


@cache
def _clear_misspellings() -> dict[str, tuple[str, ...]]:
    known = known_words()
    slips = {word: misspellings(word) for word in sorted(known)}
    counts = Counter(slip for found in slips.values() for slip in found)
    return {
        word: tuple(sorted(slip for slip in found if counts[slip] == 1 and slip not in known))
        for word, found in slips.items()
    }


def with_typos(rng: np.random.Generator, text: str, count: int) -> tuple[str, int]:
    """The text with at most that many of its words misspelt, and how many were."""
    clear = _clear_misspellings()
    places = [match for match in _WORD.finditer(text) if len(match[0]) >= LEAST_LETTERS and clear.get(match[0].lower())]
    chosen = sorted(rng.permutation(len(places))[:count].tolist(), reverse=True)
    for number in chosen:
        match = places[number]
        slips = clear[match[0].lower()]
        text = text[: match.start()] + slips[int(rng.integers(len(slips)))] + text[match.end() :]
    return text, len(chosen)
