"""What a node has to say of its run: on its page in the artist's language, in the log and for HTTP clients in English.

The texts are locales/LANGUAGE/notes.json, by key; the host itself knows no place for such texts.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from .host import language

logger = logging.getLogger("instructx")

LOCALES = Path(__file__).resolve().parents[2] / "locales"
ENGLISH = "en"
UI_KEY, KIND_KEY = "instructx_notes", "instructx_node"  # read by web/js/notes.js
# For the schema of a node with notes: the host shows them again where it kept the node's output and does not run it.
# Hosts before 0.19 lack it: there the page keeps what it shows, and an opened or reloaded graph stays silent.
SAYS_AGAIN = {"has_intermediate_output": True}


@dataclass(frozen=True)
class Note:
    """One sentence: its key in notes.json, and the values in it."""

    key: str
    values: tuple[tuple[str, Any], ...]

    def text(self, chosen: str = ENGLISH) -> str:
        """In that language, e.g. "zh" or "zh-TW"; in English where there are no texts of it."""
        return texts(chosen.split("-")[0])[self.key].format(**dict(self.values))


def note(key: str, **values: Any) -> Note:
    """Raises KeyError for a key without a text, or a text with a value that is not given."""
    made = Note(key, tuple(values.items()))
    made.text()
    return made


@lru_cache(maxsize=8)
def texts(chosen: str) -> dict[str, str]:
    """The sentences of a language, by key."""
    file = LOCALES / chosen / "notes.json"
    if not chosen.isalpha() or not file.is_file():
        file = LOCALES / ENGLISH / "notes.json"
    return json.loads(file.read_text(encoding="utf-8"))


def notes_ui(kind: str, notes: Sequence[Note]) -> dict[str, list[str]]:
    """The `ui` of a node's output: for the page (web/js/notes.js) in the artist's language, `text` in English.

    kind: of the node. The page gives a result to the node of that number in the graph that is open, of whatever kind.
    """
    lines = [each.text() for each in notes]
    for line in lines:
        logger.info("InstructX: %s", line)
    chosen = language()
    return {"text": lines, UI_KEY: [each.text(chosen) for each in notes], KIND_KEY: [kind]}
