"""The language of the procedural world: instructions, names, captions and questions in English and Chinese.

Data flow: data/*.json -> lexicon -> manner -> names -> sentence, captions -> questions, segments. Everything is a pure
function of a random stream; pictures and words come from different ones. Code is ASCII, all that is said is data.
"""

from __future__ import annotations

from .captions import caption
from .lexicon import LANGUAGES
from .manner import CASES, Manner
from .questions import asked_pairs, qa_pairs
from .segments import word_pieces
from .sentence import instruct

__all__ = ["CASES", "LANGUAGES", "Manner", "asked_pairs", "caption", "instruct", "qa_pairs", "word_pieces"]
