"""The whole picture in words, e.g. "a red circle at the top left and a cyan star at the top right on gray dots".

Place: scene, names -> captions -> pretraining, and the answers to "what does the picture show?". Without a random
stream always in the same, plain words: as an answer, a caption must be the only right one.
"""

from __future__ import annotations

import numpy as np

from ..scene.contents import Scene
from .manner import Manner, draw_speaker
from .names import ground_words, indefinite, place_word, plain_speaker, shape_word


def caption(scene: Scene, language: str = "en", rng: np.random.Generator | None = None) -> str:
    """The picture in words; rng: with synonyms. Lower case."""
    manner = Manner(language, False)
    speaker = plain_speaker(language) if rng is None else draw_speaker(rng, "train", "image", manner)
    forms = speaker.words["caption"]
    if scene.look == "segment":
        thing = scene.at(scene.focus)  # type: ignore[arg-type]
        return forms["mask"].format(shape=shape_word(speaker, thing), at=place_word(speaker, thing.place))
    lines_only = scene.look == "outline"  # colours and ground are gone
    parts = [
        forms["thing"].format(new=indefinite(speaker, thing, int(lines_only)), at=place_word(speaker, thing.place))
        for thing in scene.things
    ]
    things = forms["last"].join([forms["join"].join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    text = forms["ground"].format(
        things=things or forms["empty"], ground=forms["white"] if lines_only else ground_words(speaker, scene.ground)
    )
    return forms["looks"].get(scene.look or "", "{}").format(text)
