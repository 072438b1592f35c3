"""Questions and answers that pretrain the MLLM: about pictures (qa_pairs) and about instructions (asked_pairs).

Place: scene, names, sentence -> questions -> MLLM pretraining. Questions are put in any words, case and language, with
typos; every answer is the only right one, in plain words of the question's language. A picture that lost its colours
(grayscale, outline, segmentation, inversion, tones) gets no questions about colours or the background.
asked_pairs teach to read before there is anything to edit: what is asked for, which thing of the picture is meant,
where, which colour; "nothing" where the thing is absent or already so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from ..scene.canvas import PLACES
from ..scene.contents import STYLES, TONE_LOOKS, Change, Instruction, Scene, Thing
from ..scene.draw import choose, draw_combination
from .captions import caption
from .lexicon import DATA
from .manner import Manner, Speaker, draw_speaker
from .names import color_word, ground_words, indefinite, name, place_word, plain_speaker, shape_word, ways_to_name
from .sentence import type_text

Pair = tuple[str, str]


@cache
def _forms(language: str) -> dict[str, Any]:
    return json.loads((DATA / f"questions_{language}.json").read_text(encoding="utf-8"))


def _ask(speaker: Speaker, key: str, **parts: str) -> str:
    return type_text(speaker, choose(speaker.rng, _forms(speaker.language)[key]).format(**speaker.nouns, **parts))[0]


def _place(speaker: Speaker, place: int) -> str:
    """A place as an answer: "top left"."""
    return speaker.words["places"][PLACES[place]][0]


def qa_pairs(scene: Scene, rng: np.random.Generator, manner: Manner | None = None) -> list[Pair]:
    """Questions with their only right answer, all in one language; the first asks for the whole picture.

    Kinds: describe (the caption), count, what is at a place (also an empty one), shape or colour at a place, where a
    thing is, whether there is such a thing, what the background is.
    """
    speaker = draw_speaker(rng, "train", "image", manner)
    plain, forms = plain_speaker(speaker.language), _forms(speaker.language)
    if scene.look == "segment":
        shown = scene.at(scene.focus)  # type: ignore[arg-type]
        at = place_word(speaker, shown.place)
        return [
            (_ask(speaker, "describe"), caption(scene, speaker.language)),
            (_ask(speaker, "white"), _place(plain, shown.place)),
            (_ask(speaker, "shape", at=at), shape_word(plain, shown)),
        ]
    pairs: list[Pair] = []
    if scene.look != "grayscale":  # its caption names colours that cannot be seen
        pairs.append((_ask(speaker, "describe"), caption(scene, speaker.language)))
    pairs.append((_ask(speaker, "count"), forms["numbers"][len(scene.things)]))
    if scene.look is None:
        pairs += _color_pairs(speaker, plain, scene)
    for thing in scene.things:
        pairs.append((_ask(speaker, "shape", at=place_word(speaker, thing.place)), shape_word(plain, thing)))
        if scene.look is not None and "shape" in ways_to_name(scene, thing):
            pairs.append((_ask(speaker, "where", thing=name(speaker, thing, ["shape"])), _place(plain, thing.place)))
    if scene.clear_places:
        at = place_word(speaker, choose(rng, scene.clear_places))
        pairs.append((_ask(speaker, "what", at=at), forms["nothing"]))
    return pairs


def _color_pairs(speaker: Speaker, plain: Speaker, scene: Scene) -> list[Pair]:
    """Questions about a picture in its own colours."""
    rng, forms = speaker.rng, _forms(speaker.language)
    pairs = [(_ask(speaker, "ground"), ground_words(plain, scene.ground))]
    for thing in scene.things:
        at = place_word(speaker, thing.place)
        pairs.append((_ask(speaker, "color", at=at), color_word(plain, thing)))
        pairs.append((_ask(speaker, "what", at=at), indefinite(plain, thing)))
        ways = [way for way in ways_to_name(scene, thing) if way in ("full", "shape", "color", "size")]
        pairs.append((_ask(speaker, "where", thing=name(speaker, thing, ways)), _place(plain, thing.place)))
        if "shape" in ways:
            pairs.append((_ask(speaker, "color of", thing=name(speaker, thing, ["shape"])), color_word(plain, thing)))
    if scene.things and rng.random() < 0.5:
        there = choose(rng, scene.things)
        pairs.append((_ask(speaker, "exists", new=indefinite(speaker, there)), forms["yes"]))
    else:
        near = choose(rng, scene.things).shape if scene.things and rng.random() < 0.5 else None
        color, shape = draw_combination(rng, scene.combinations, False, shape=near)
        absent = Thing(shape, color, 0, 11.0)
        pairs.append((_ask(speaker, "exists", new=indefinite(speaker, absent)), forms["no"]))
    return pairs


def is_idle(change: Change) -> bool:
    """Whether the change asks for what already is so, or is of a thing that is not there."""
    if change.kind == "leave" or (change.ground is not None and change.ground == change.scene.ground):
        return True
    if change.thing is None:
        return False
    return change.thing not in change.scene.things or change.new == change.thing


def _answers(changes: Sequence[Change], plain: Speaker) -> dict[str, str]:
    """Answers to the questions about an instruction, by the key of the question; no answer, no question."""
    forms = _forms(plain.language)
    changes = [change for change in changes if not is_idle(change)]
    if not changes:
        leave = forms["answers"]["leave"], forms["nowhere"], forms["kinds"]["leave"]
        return dict(zip(("asked", "asked where", "asked kind"), leave, strict=True))
    new = [change.new for change in changes if change.new is not None and change.new.pattern is None]
    shaped = [change.new for change in changes if change.new in new and change.kind in ("add", "swap")]
    found = {
        "asked": forms["then"].join(_asked(change, plain) for change in changes),
        "asked where": forms["and"].join(_where(change, plain) for change in changes),
        "asked kind": forms["and"].join(forms["kinds"][change.kind] for change in changes),
    }
    if new:
        found["asked color"] = forms["and"].join(color_word(plain, thing) for thing in new)
    if shaped:
        found["asked shape"] = forms["and"].join(shape_word(plain, thing) for thing in shaped)
    return found


def _where(change: Change, plain: Speaker) -> str:
    forms = _forms(plain.language)
    if change.kind in (*STYLES, *TONE_LOOKS):
        return forms["everywhere"]
    if change.kind == "background":
        return forms["background"]
    return _place(plain, (change.thing or change.new).place)  # type: ignore[union-attr]


def _asked(change: Change, plain: Speaker) -> str:
    """The change in plain words: every thing with colour, shape and place, as the picture shows it."""
    forms, thing, new = _forms(plain.language), change.thing, change.new
    place = "" if thing is None else place_word(plain, thing.place)
    return forms["answers"][change.kind].format(
        thing=""
        if thing is None
        else forms["place"].format(color=color_word(plain, thing), shape=shape_word(plain, thing), at=place),
        new="" if new is None else indefinite(plain, new, 2 if thing is None and new.size != "medium" else 0),
        at="" if new is None else place_word(plain, new.place),
        color="" if new is None else color_word(plain, new),
        ground="" if change.ground is None else ground_words(plain, change.ground),
    )


def asked_pairs(changes: Sequence[Change], instruction: Instruction, rng: np.random.Generator) -> list[Pair]:
    """Questions about an instruction for the picture, in its language, with their only right answer."""
    speaker = draw_speaker(rng, "train", "image", Manner(instruction.language))
    speaker = replace(speaker, typos=0, case="lower")  # the instruction has its own
    answers = _answers(changes, plain_speaker(speaker.language))
    return [(_quoting(speaker, key, instruction.text), answer) for key, answer in answers.items()]


def _quoting(speaker: Speaker, key: str, text: str) -> str:
    form = choose(speaker.rng, _forms(speaker.language)[key])
    return form.format(text=text, **speaker.nouns)
