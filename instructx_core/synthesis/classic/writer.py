"""The classic writer: words that the user gave, and templates; it sees nothing.

Beside the other classic players -> stages/instruct.py, stages/swap.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..terms.roles import SwapWords, without_article


@dataclass(frozen=True, slots=True)
class TemplateWriter:
    """known: what films may show; others: what a swap may put there."""

    known: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return "templates 1"

    def things(self, frames_FHWC: np.ndarray) -> Sequence[str]:
        return self.known

    def swap(self, frames_FHWC: np.ndarray, phrase: str, key: str) -> SwapWords:
        """key: decides which of the others."""
        other = self.others[int(hashlib.sha256(key.encode()).hexdigest(), 16) % len(self.others)]
        article = "an" if phrase[0] in "aeiou" else "a"
        back = f"Replace the {without_article(other)} with {article} {phrase}."
        return SwapWords(f"replace the {phrase} with {other}", other, back)

    def instruction(self, source_FHWC: np.ndarray, target_FHWC: np.ndarray, task: str, draft: str) -> str:
        return draft
