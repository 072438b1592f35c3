"""Chinese text cut into words, for training a tokenizer.

Chinese has no spaces: a byte-pair encoding trained on whole sentences makes "a red circle" one token, so that a new
pair of colour and shape would share nothing with the known ones.

Place: lexicon -> segments -> training of the tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from .lexicon import words


def _strings(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    else:
        for branch in tree.values() if isinstance(tree, dict) else tree:
            yield from _strings(branch)


@cache
def _pattern() -> re.Pattern[str]:
    """The longest known word, one character, or what is no Chinese."""
    groups = ("vocabulary", "shapes", "colors", "at", "places", "ground_colors", "nouns")
    known = {word for group in groups for word in _strings(words("zh")[group])}
    longest_first = sorted(known, key=lambda word: (-len(word), word))
    return re.compile("|".join([*longest_first, "[\u4e00-\u9fff]", "[^\u4e00-\u9fff]+"]))


def word_pieces(text: str) -> list[str]:
    """The text in pieces that tokens must not cross: Chinese words; English as it is."""
    return [text] if text.isascii() else _pattern().findall(text)
