"""Instructions: the changes of an edit as a person may type them.

Place: names, manner, typos -> sentence -> sampling. clause (one change) -> joint (two changes, in order where that
matters) -> frame ("could you {}?") -> leads and trails (own sentences) -> spelling, typos, case, punctuation.
A sentence always determines one ground truth.
"""

from __future__ import annotations

import re

import numpy as np

from ..scene.contents import Change, Instruction
from ..scene.draw import choose
from .lexicon import Line, lines
from .manner import Manner, Speaker, draw_speaker
from .names import color_word, ground_phrase, new_name, place_word, refer
from .typos import with_typos

LOCAL = frozenset({"add", "remove", "swap", "color", "reference_add", "reference_swap"})
FRAME_SHARE, LEAD_SHARE, TRAIL_SHARE = 0.7, 0.2, 0.4  # of the sentences with fillers
ENDS = ".!?\u3002\uff01\uff1f:\uff1a"
_START = re.compile(r"(^|[.!?:] )([a-z])")
_WORDS = re.compile(r"[a-z]+")


def _pick(speaker: Speaker, section: str, uses: tuple[str, ...]) -> Line:
    return choose(speaker.rng, lines(speaker.language, section, uses, speaker.held_out))


def _clause(speaker: Speaker, change: Change, uses: tuple[str, ...]) -> tuple[str, Line]:
    """One change in words, without capital or full stop; and its wording."""
    line, thing, new = _pick(speaker, change.kind, uses), change.thing, change.new
    text = line.text.format(
        thing="" if thing is None else refer(speaker, change.scene, thing, change.full),
        new=new_name(speaker, change),
        at="" if new is None else place_word(speaker, new.place),
        place="" if new is None else place_word(speaker, new.place, "places"),
        color="" if new is None else color_word(speaker, new),
        ground="" if change.ground is None else ground_phrase(speaker, change.ground),
        **speaker.nouns,
    )
    return text, line


def _body(speaker: Speaker, changes: tuple[Change, ...], is_ordered: bool) -> tuple[str, str, list[Line]]:
    """All changes in words, their use ("imperative", "statement" or "sentences"), and their lines."""
    if len(changes) == 1:
        text, line = _clause(speaker, changes[0], ("imperative", "alone", "statement"))
        return text, "statement" if line.use == "statement" else "imperative", [line]
    joint = _pick(speaker, "joints", ("ordered", "sentences") if is_ordered else ("free", "ordered", "sentences"))
    clauses = [_clause(speaker, change, ("imperative",)) for change in changes]
    text = joint.text.format(*(text for text, _ in clauses))
    use = "sentences" if joint.use == "sentences" else "imperative"
    return text, use, [*(line for _, line in clauses), joint]


def _with_fillers(speaker: Speaker, text: str, use: str, kinds: set[str]) -> tuple[list[str], list[Line]]:
    """The sentences around and with the text, and the fillers used."""
    rng, found = speaker.rng, []
    is_edit = kinds <= LOCAL | {"background"}  # "everything else stays" makes sense
    extra = (("edit",) if is_edit else ()) + (("local",) if kinds <= LOCAL else ())
    has_frame = use != "sentences" and rng.random() < FRAME_SHARE
    has_lead, has_trail = rng.random() < LEAD_SHARE, rng.random() < TRAIL_SHARE
    sentences, trails = [text], ("any", *extra)
    if has_frame:
        frames = ("any",) if use == "statement" else ("imperative", "any", *extra[:1])
        frame = _pick(speaker, "frames", frames)
        sentences = [frame.text.format(text)]
        if frame.use in ("any", "edit"):  # has said thanks, or "nothing else"
            trails = extra if frame.use == "any" else ("any",)
        has_lead = has_lead and frame.use != "any"  # or it would greet twice
        found.append(frame)
    if has_lead:
        lead = _pick(speaker, "leads", ("any", *extra[:1]))
        sentences.insert(0, lead.text.format(**speaker.nouns))
        found.append(lead)
    if trails and (has_trail or not found):
        trail = _pick(speaker, "trails", trails)
        sentences.append(trail.text.format(**speaker.nouns))
        found.append(trail)
    return sentences, found


def _punctuated(speaker: Speaker, sentences: list[str]) -> str:
    """The sentences as one text; the last full stop is often missing."""
    rng, is_english = speaker.rng, speaker.language == "en"
    stop = "." if is_english else "\u3002"
    ended = [each if each[-1] in ENDS else each + stop for each in sentences]
    text = (" " if is_english else "").join(ended)
    if text[-1] == stop and rng.random() < 0.5:
        text = text[:-1]
    if not is_english and rng.random() < 0.15:
        text = text.replace("\uff0c", ",").replace("\uff1f", "?").replace("\uff01", "!")
    return text


def _cased(text: str, case: str) -> str:
    if case == "upper":
        return text.upper()
    if case == "title":
        return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))
    if case == "lower":
        return text.lower()
    return _START.sub(lambda match: match[1] + match[2].upper(), text)


def _spelled(speaker: Speaker, text: str) -> str:
    if not speaker.is_british:
        return text
    british = speaker.words["british"]
    return _WORDS.sub(lambda match: british.get(match[0], match[0]), text)


def type_text(speaker: Speaker, text: str) -> tuple[str, list[str]]:
    """The text as it comes from the keyboard: spelling, typos, case; and the traits of it."""
    if speaker.language != "en":
        return text, []
    spelled = _spelled(speaker, text)
    wrong, typos = with_typos(speaker.rng, spelled, speaker.typos) if speaker.typos else (spelled, 0)
    return _cased(wrong, speaker.case), [
        speaker.case,
        *(["british"] if spelled != text else []),
        *(["typo"] * typos),
    ]


def instruct(
    rng: np.random.Generator,
    changes: tuple[Change, ...],
    is_ordered: bool = False,
    split: str = "train",
    modality: str = "image",
    manner: Manner | None = None,
) -> Instruction:
    """The changes as an instruction. is_ordered: they must be made in this order. Held-out lines only in "test"."""
    speaker = draw_speaker(rng, split, modality, manner)
    text, use, found = _body(speaker, changes, is_ordered)
    sentences, fillers = [text], []
    if speaker.has_fillers:
        sentences, fillers = _with_fillers(speaker, text, use, {change.kind for change in changes})
    text, traits = type_text(speaker, _punctuated(speaker, sentences))
    traits += ["filler"] if fillers else []
    found += fillers
    wording = " ".join(line.name for line in found)
    return Instruction(text, speaker.language, wording, any(line.held_out for line in found), tuple(traits))
