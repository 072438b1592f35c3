"""How something is said: the language, the case, British or American, typos, politeness, known or held-out wordings.

Place: manner -> sentence. A Manner is drawn for a sentence, or asked for (the measure says one edit in many manners);
what is not asked for (None) is drawn. A Speaker carries it with the nouns that a sentence keeps to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from ...errors import InputError
from ..scene.draw import choose, choose_weighted
from .lexicon import LANGUAGES, words

CASES = ("lower", "sentence", "title", "upper")
CASE_SHARES = (0.4, 0.42, 0.07, 0.11)
CHINESE_SHARE = 0.3
FILLER_SHARE = 0.4
TYPO_SHARE = 0.15  # of the English sentences; a third of these have two
BRITISH_SHARE = 0.4
HELD_OUT_WORDS_SHARE = 0.4  # of the sentences of "test"
PLAIN_SHARE = 0.6  # of the words: the first of its list


@dataclass(frozen=True, slots=True)
class Manner:
    """None: drawn."""

    language: str | None = None  # one of LANGUAGES
    held_out: bool | None = None  # made of held-out wordings and fillers; only in "test"
    case: str | None = None  # one of CASES; Chinese has none
    is_british: bool | None = None
    typos: int | None = None  # at most that many, 0 to 2; none in Chinese
    has_fillers: bool | None = None


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who says a sentence: a Manner without gaps, and its random stream."""

    rng: np.random.Generator
    language: str
    held_out: bool
    case: str
    is_british: bool
    typos: int
    has_fillers: bool
    nouns: dict[str, str]  # "pic", "bg", "obj", "one", "ref": one word each for the whole sentence
    kept: dict[str, str] = field(default_factory=dict)  # names chosen so far: a sentence says "disc" or "circle"

    @property
    def words(self) -> dict[str, Any]:
        return words(self.language)

    def word(self, group: str, key: str) -> str:
        """The name of a shape, colour or size, the same one throughout the sentence."""
        if key not in self.kept:
            self.kept[key] = vary(self.rng, self.words[group][key])
        return self.kept[key]


def vary(rng: np.random.Generator, options: Sequence[str]) -> str:
    """The first, plain one more often than not, or any."""
    if len(options) == 1 or rng.random() < PLAIN_SHARE:
        return options[0]
    return choose(rng, options)


def _nouns(rng: np.random.Generator, language: str, modality: str) -> dict[str, str]:
    nouns = words(language)["nouns"]
    picture = nouns["image" if modality == "image" or rng.random() < 0.25 else "video"]  # clips are called both
    return {"pic": choose(rng, picture), **{key: vary(rng, nouns[key]) for key in ("bg", "obj", "one", "ref")}}


def draw_speaker(rng: np.random.Generator, split: str, modality: str, manner: Manner | None = None) -> Speaker:
    """Draws what the manner leaves open. Raises InputError for one that can't be."""
    manner = Manner() if manner is None else manner
    _check(manner, split)
    drawn = {
        "language": "zh" if rng.random() < CHINESE_SHARE else "en",
        "held_out": bool(rng.random() < HELD_OUT_WORDS_SHARE) and split == "test",
        "case": choose_weighted(rng, CASES, CASE_SHARES),
        "is_british": bool(rng.random() < BRITISH_SHARE),
        "typos": (1 + int(rng.random() < 1.0 / 3.0)) if rng.random() < TYPO_SHARE else 0,
        "has_fillers": bool(rng.random() < FILLER_SHARE),
    }
    asked = {each.name: getattr(manner, each.name) for each in fields(manner)}
    drawn |= {name: value for name, value in asked.items() if value is not None}
    return Speaker(rng, nouns=_nouns(rng, drawn["language"], modality), **drawn)


def _check(manner: Manner, split: str) -> None:
    if manner.language not in (None, *LANGUAGES):
        raise InputError(f"language {manner.language!r} is unknown; use one of {', '.join(LANGUAGES)}")
    if manner.case not in (None, *CASES):
        raise InputError(f"case {manner.case!r} is unknown; use one of {', '.join(CASES)}")
    if manner.typos not in (None, 0, 1, 2):
        raise InputError(f"{manner.typos!r} typos can't be made; use 0, 1 or 2")
    if manner.held_out and split != "test":
        raise InputError(f"split {split!r} shows no held-out wordings; use test")
