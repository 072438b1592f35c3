"""Words of the procedural world: names of things, captions, and the sentences of every task.

Place: scene -> wordings -> edits, questions. Wording varies, but a sentence always determines one ground truth: a thing
is called by its colour or its shape alone only where that is unique in the picture. ASCII only.
"""

from __future__ import annotations

import numpy as np

from .palette import PLACES, ground_phrase
from .scene import Scene, Thing, choose

WORDINGS: dict[str, tuple[str, ...]] = {
    "add": (
        "add {new} at the {place}",
        "put {new} at the {place}",
        "place {new} in the {place} corner",
        "draw {new} at the {place} of the picture",
        "insert {new} in the {place}",
    ),
    "remove": (
        "remove {thing}",
        "delete {thing}",
        "erase {thing}",
        "take {thing} away",
        "get rid of {thing}",
        "make {thing} disappear",
    ),
    "swap": (
        "replace {thing} with {new}",
        "turn {thing} into {new}",
        "swap {thing} for {new}",
        "change {thing} into {new}",
        "put {new} in place of {thing}",
    ),
    "color": (
        "make {thing} {color}",
        "turn {thing} {color}",
        "paint {thing} {color}",
        "change the color of {thing} to {color}",
        "recolor {thing} to {color}",
    ),
    "background": (
        "change the background to {ground}",
        "replace the background with {ground}",
        "make the background {ground}",
        "use {ground} as the background",
        "set the background to {ground}",
    ),
    "invert": (
        "invert the colors",
        "invert all colors of the picture",
        "turn the picture into a negative",
        "make it a color negative",
    ),
    "grayscale": (
        "convert the picture to grayscale",
        "make it black and white",
        "remove all color from the picture",
        "turn it into a grayscale picture",
    ),
    "outline": (
        "turn the picture into an outline drawing",
        "draw only the outlines on white",
        "convert it to a line drawing",
        "make it a sketch with dark contours on white",
    ),
    "darker": ("make the picture darker", "darken the picture", "make everything darker", "dim the whole picture"),
    "brighter": (
        "make the picture brighter",
        "brighten the picture",
        "make everything brighter",
        "lighten the whole picture",
    ),
    "warmer": (
        "make the picture warmer",
        "give the picture warmer colors",
        "make all colors warmer",
        "warm up the whole picture",
    ),
    "cooler": (
        "make the picture cooler",
        "give the picture cooler colors",
        "make all colors cooler",
        "cool down the whole picture",
    ),
    "segment": (
        "segment {thing}",
        "show the mask of {thing}",
        "make {thing} white and everything else black",
        "give me a segmentation mask of {thing}",
        "cut out {thing} as a white mask on black",
    ),
    "reference_add": (
        "add the object from the reference at the {place}",
        "put the reference object at the {place}",
        "place the object of the reference picture in the {place} corner",
        "insert the object shown in the reference at the {place}",
    ),
    "reference_swap": (
        "replace {thing} with the object from the reference",
        "swap {thing} for the reference object",
        "turn {thing} into the object shown in the reference",
        "put the object of the reference picture in place of {thing}",
    ),
}
JOINTS = (" and ", ", then ", " and then ")

LOOK_CAPTIONS = {
    "outline": "outline drawing: {}",
    "invert": "inverted colors: {}",
    "grayscale": "grayscale: {}",
    "darker": "darker: {}",
    "brighter": "brighter: {}",
    "warmer": "warmer: {}",
    "cooler": "cooler: {}",
}


def with_article(words: str) -> str:
    """Put the article in front: orange ring -> an orange ring."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def full_name(thing: Thing) -> str:
    """Colour and shape: red circle; a thing filled with a pattern is a patterned circle."""
    return f"{thing.color or 'patterned'} {thing.shape}"


def refer(rng: np.random.Generator, scene: Scene, thing: Thing, full: bool = False) -> str:
    """Words that mean this thing and no other in the scene, e.g. "the red circle", "the circle", "the red shape"."""
    name = full_name(thing)
    options = [f"the {name}"] * 6
    if not full:
        options.append(f"the {name} at the {PLACES[thing.place]}")
        options.append(f"the shape at the {PLACES[thing.place]}")
        if sum(other.shape == thing.shape for other in scene.things) == 1:
            options += [f"the {thing.shape}"] * 2
        if sum(other.color == thing.color for other in scene.things) == 1:
            options += [f"the {thing.color} shape", f"the {thing.color} one"]
    return choose(rng, options)


def clause(rng: np.random.Generator, key: str, **words: str) -> str:
    """One edit in words, without capital or full stop."""
    return choose(rng, WORDINGS[key]).format(**words)


def sentence(rng: np.random.Generator, text: str) -> str:
    """The instruction as typed: with or without capital, full stop and "please"."""
    if rng.random() < 0.1:
        text = f"please {text}"
    if rng.random() < 0.6:
        text = text[0].upper() + text[1:]
    return f"{text}." if rng.random() < 0.5 else text


def caption(scene: Scene) -> str:
    """The whole picture in words, e.g. "a red circle at the top left and a cyan star at the top right on gray dots"."""
    if scene.look == "segment":
        thing = scene.at(scene.focus)  # type: ignore[arg-type]
        return f"mask: a white {thing.shape} at the {PLACES[thing.place]} on black"
    lines_only = scene.look == "outline"  # colours and ground are gone
    names = [thing.shape if lines_only else full_name(thing) for thing in scene.things]
    places = [PLACES[thing.place] for thing in scene.things]
    parts = [f"{with_article(name)} at the {place}" for name, place in zip(names, places, strict=True)]
    ground = "white" if lines_only else ground_phrase(scene.ground)
    if not parts:
        text = f"nothing on {ground}"
    elif len(parts) == 1:
        text = f"{parts[0]} on {ground}"
    else:
        text = f"{', '.join(parts[:-1])} and {parts[-1]} on {ground}"
    return LOOK_CAPTIONS.get(scene.look or "", "{}").format(text)
