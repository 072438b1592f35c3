"""Which files of a candidate are the two sides of each kind of pair, and what is said of them.

Place: stages/ -> pairs -> stages/back_check.py, export.py. The film is the target of every pair but "remove": a model
that is trained on these learns to draw what a camera saw (paper A.2).
"""

from __future__ import annotations

from collections.abc import Mapping

from .candidate import Candidate
from .clip import CLIP, ERASED, RECOLOURED, SWAPPED

PAIRS = {  # task: source, target
    "remove": (CLIP, ERASED),
    "add": (ERASED, CLIP),
    "change_color": (RECOLOURED, CLIP),
    "reference_add": (ERASED, CLIP),
    "swap": (SWAPPED, CLIP),
    "reference_swap": (SWAPPED, CLIP),
}
WITH_REFERENCE = ("reference_add", "reference_swap")


def said_of(candidate: Candidate) -> Mapping[str, str]:
    """The instruction of every pair: those that a judge has left, where there was one."""
    facts = candidate.facts
    return (facts.get("back-check") or facts["instruct"])["texts"]
