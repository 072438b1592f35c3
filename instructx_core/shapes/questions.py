"""Questions and answers about a scene: what the MLLM is pretrained on before it follows instructions.

Place: scene, wordings -> questions -> MLLM pretraining. Every answer follows from the picture: pictures that lost their
colours (grayscale, outline, segmentation, inversion, tones) get no questions about colours or the background.
"""

from __future__ import annotations

import numpy as np

from .palette import PLACES, ground_phrase
from .scene import Scene, choose
from .wordings import caption, full_name, refer, with_article

DESCRIBE = ("describe the picture", "what does the picture show?", "describe what you see")
COUNT = ("how many objects are there?", "how many shapes are in the picture?")
GROUND = ("what is the background?", "describe the background")
NUMBERS = ("zero", "one", "two", "three", "four")


def qa_pairs(scene: Scene, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Questions with their only right answer, lower case, ASCII.

    Kinds: describe (the caption), count, what is at a place (also an empty one), shape or colour at a place, where a
    thing is, what the background is.
    """
    describe: tuple[str, str] = (choose(rng, DESCRIBE), caption(scene))
    pairs: list[tuple[str, str]] = (
        [] if scene.look == "grayscale" else [describe]
    )  # its caption names colours that cannot be seen
    if scene.look == "segment":
        shown = scene.at(scene.focus)  # type: ignore[arg-type]
        pairs.append(("where is the white shape?", PLACES[shown.place]))
        pairs.append((f"which shape is at the {PLACES[shown.place]}?", shown.shape))
        return pairs
    pairs.append((choose(rng, COUNT), NUMBERS[len(scene.things)]))
    colored = scene.look is None
    if colored:
        pairs.append((choose(rng, GROUND), ground_phrase(scene.ground)))
    for thing in scene.things:
        place = PLACES[thing.place]
        pairs.append((f"which shape is at the {place}?", thing.shape))
        if colored:
            pairs.append((f"which color is at the {place}?", thing.color or "patterned"))
            pairs.append((f"what is at the {place}?", with_article(full_name(thing))))
            pairs.append((f"where is {refer(rng, scene, thing, full=True)}?", place))
        elif sum(other.shape == thing.shape for other in scene.things) == 1:
            pairs.append((f"where is the {thing.shape}?", place))
    empty = choose(rng, scene.empty_places)
    pairs.append((f"what is at the {PLACES[empty]}?", "nothing"))
    return pairs
