"""The eleven tasks: a scene, what to change, the sentence that asks for it, and which pixels must change.

Place: scene, wordings -> edits -> sampling. Every task draws a Draft; sampling.py renders it. A task changes Scene to
Scene, so the target is rendered, never painted over the source. The tasks are those of the paper's section 4 (add,
remove, swap, colour, background, style, tone, hybrid, segmentation, reference editing) at the size of this world.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .palette import GROUNDS, PLACES, SHAPES, ground_phrase
from .scene import (
    NEW_RADIUS,
    STYLES,
    TONE_LOOKS,
    Redraw,
    Scene,
    Thing,
    choose,
    draw_combination,
    draw_pattern,
    draw_scene,
    patterned,
)
from .wordings import JOINTS, clause, full_name, refer, sentence, with_article

# A region is the footprint of one place (its index), or "objects", "ground", "lines", "rest".
RegionSpec = tuple[str, "int | str"]


@dataclass(frozen=True, slots=True)
class Draft:
    """An edit before rendering."""

    source: Scene
    target: Scene
    instruction: str
    regions: tuple[RegionSpec, ...]
    reference: Thing | None = None
    all_regions_change: bool = False  # doing nothing must fail in every region, not only in one


@dataclass(frozen=True, slots=True)
class LocalEdit:
    """One change at one place, in words, not yet a sentence."""

    target: Scene
    words: str
    place: int


def _add(rng: np.random.Generator, scene: Scene, held_out: bool, full: bool) -> LocalEdit:
    place = choose(rng, scene.empty_places)
    color, shape = draw_combination(rng, scene.combinations, held_out)
    thing = Thing(shape, color, place, NEW_RADIUS)
    words = clause(rng, "add", new=with_article(full_name(thing)), place=PLACES[place])
    return LocalEdit(scene.with_thing(thing), words, place)


def _remove(rng: np.random.Generator, scene: Scene, thing: Thing, held_out: bool, full: bool) -> LocalEdit:
    words = clause(rng, "remove", thing=refer(rng, scene, thing, full))
    return LocalEdit(scene.without(thing.place), words, thing.place)


def _swap(rng: np.random.Generator, scene: Scene, thing: Thing, held_out: bool, full: bool) -> LocalEdit:
    keep = thing.color if rng.random() < 0.5 else None
    color, shape = draw_combination(rng, scene.combinations, held_out, color=keep, not_shape=thing.shape)
    # Without a colour word the colour is kept; hybrids say it in full so that no order of reading is ambiguous.
    bare = color == thing.color and not full and rng.random() < 0.6
    new = with_article(shape if bare else f"{color} {shape}")
    words = clause(rng, "swap", thing=refer(rng, scene, thing, full), new=new)
    return LocalEdit(scene.with_thing(replace(thing, color=color, shape=shape)), words, thing.place)


def _color(rng: np.random.Generator, scene: Scene, thing: Thing, held_out: bool, full: bool) -> LocalEdit:
    color, _ = draw_combination(rng, scene.combinations, held_out, shape=thing.shape, not_color=thing.color)
    words = clause(rng, "color", thing=refer(rng, scene, thing, full), color=color)
    return LocalEdit(scene.with_thing(replace(thing, color=color)), words, thing.place)


CHANGES: dict[str, Callable[..., LocalEdit]] = {"remove": _remove, "swap": _swap, "color": _color}


def scene_for(rng: np.random.Generator, modality: str, held_out: bool, min_count: int = 1) -> tuple[Scene, Thing]:
    """A scene whose first thing is a held-out combination where one is asked for."""
    first = draw_combination(rng, set(), held_out=True) if held_out else None
    return draw_scene(rng, modality, first, min_count)


def _held_side(rng: np.random.Generator, name: str, held_out: bool) -> tuple[bool, bool]:
    """Whether the thing before the edit and the one after it are held-out combinations."""
    if not held_out or name == "remove":
        return held_out, False
    if name == "add":
        return False, True
    before = rng.random() < 0.5
    return before, not before


def draft_local(name: str, rng: np.random.Generator, modality: str, held_out: bool) -> Draft:
    before, after = _held_side(rng, name, held_out)
    scene, thing = scene_for(rng, modality, before)
    edit = _add(rng, scene, after, False) if name == "add" else CHANGES[name](rng, scene, thing, after, False)
    return Draft(scene, edit.target, sentence(rng, edit.words), (("object", edit.place),))


def _new_ground(rng: np.random.Generator, scene: Scene) -> str:
    return choose(rng, [ground for ground in GROUNDS if ground != scene.ground])


def draft_background(rng: np.random.Generator, modality: str, held_out: bool) -> Draft:
    scene, _ = scene_for(rng, modality, held_out)
    ground = _new_ground(rng, scene)
    words = clause(rng, "background", ground=ground_phrase(ground))
    return Draft(scene, replace(scene, ground=ground), sentence(rng, words), (("ground", "ground"),))


def draft_style(rng: np.random.Generator, modality: str, held_out: bool) -> Draft:
    scene, _ = scene_for(rng, modality, held_out)
    look = choose(rng, STYLES)
    regions: tuple[RegionSpec, ...] = (("objects", "objects"), ("ground", "rest"))
    if look == "outline":
        regions = (("lines", "lines"), ("rest", "rest"))
    return Draft(scene, replace(scene, look=look), sentence(rng, clause(rng, look)), regions)


def draft_tone(rng: np.random.Generator, modality: str, held_out: bool) -> Draft:
    scene, _ = scene_for(rng, modality, held_out)
    look = choose(rng, TONE_LOOKS)
    regions = (("objects", "objects"), ("ground", "rest"))
    return Draft(scene, replace(scene, look=look), sentence(rng, clause(rng, look)), regions)


def draft_segment(rng: np.random.Generator, modality: str, held_out: bool) -> Draft:
    scene, thing = scene_for(rng, modality, held_out)
    words = clause(rng, "segment", thing=refer(rng, scene, thing))
    target = replace(scene, look="segment", focus=thing.place)
    return Draft(scene, target, sentence(rng, words), (("object", thing.place), ("rest", "rest")))


def draft_hybrid(rng: np.random.Generator, modality: str, held_out: bool) -> Draft:
    """A local edit, then a second one: another thing, the background, or the tone of the whole picture (last)."""
    second = choose(rng, ("local", "background", "tone"))
    name = choose(rng, ("add", "remove", "swap", "color"))
    before, after = _held_side(rng, name, held_out)
    scene, thing = scene_for(rng, modality, before, min_count=2 if second == "local" else 1)
    edit = _add(rng, scene, after, True) if name == "add" else CHANGES[name](rng, scene, thing, after, True)
    target, regions = edit.target, (("object", edit.place),)
    if second == "tone":
        look = choose(rng, TONE_LOOKS)
        target, words = replace(target, look=look), clause(rng, look)
        regions += (("rest", "rest"),)
        joint = choose(rng, JOINTS[1:])  # the order matters: the tone applies to the edited picture
    elif second == "background":
        ground = _new_ground(rng, scene)
        target, words = replace(target, ground=ground), clause(rng, "background", ground=ground_phrase(ground))
        regions += (("ground", "ground"),)
        joint = choose(rng, JOINTS)
    else:
        others = [other for other in scene.things if other.place not in (edit.place, thing.place)]
        if not others:
            raise Redraw
        other = choose(rng, others)
        # Combinations of the source and of the first edit are both taken: no name means two things in any order.
        both = Scene(scene.ground, scene.things + edit.target.things)
        next_edit = CHANGES[choose(rng, ("remove", "swap", "color"))](rng, both, other, False, True)
        target, words = target.without(other.place), next_edit.words
        changed = [each for each in next_edit.target.things if each.place == other.place]
        if changed:
            target = target.with_thing(changed[0])
        regions += (("object 2", other.place),)
        joint = choose(rng, JOINTS)
    instruction = sentence(rng, edit.words + joint + words)
    return Draft(scene, target, instruction, regions, all_regions_change=True)


def _reference_thing(rng: np.random.Generator, scene: Scene, place: int) -> Thing:
    return patterned(Thing(choose(rng, SHAPES), "red", place, NEW_RADIUS), draw_pattern(rng, scene.ground))


def draft_reference_add(rng: np.random.Generator, modality: str, held_out: bool) -> Draft:
    scene, _ = scene_for(rng, modality, held_out)
    place = choose(rng, scene.empty_places)
    thing = _reference_thing(rng, scene, place)
    words = clause(rng, "reference_add", place=PLACES[place])
    return Draft(scene, scene.with_thing(thing), sentence(rng, words), (("object", place),), thing)


def draft_reference_swap(rng: np.random.Generator, modality: str, held_out: bool) -> Draft:
    scene, old = scene_for(rng, modality, held_out)
    thing = replace(_reference_thing(rng, scene, old.place), offset=old.offset, motion=old.motion)
    words = clause(rng, "reference_swap", thing=refer(rng, scene, old))
    return Draft(scene, scene.with_thing(thing), sentence(rng, words), (("object", old.place),), thing)


DRAFTS: dict[str, Callable[[np.random.Generator, str, bool], Draft]] = {
    "add": lambda rng, modality, held_out: draft_local("add", rng, modality, held_out),
    "remove": lambda rng, modality, held_out: draft_local("remove", rng, modality, held_out),
    "swap": lambda rng, modality, held_out: draft_local("swap", rng, modality, held_out),
    "color": lambda rng, modality, held_out: draft_local("color", rng, modality, held_out),
    "background": draft_background,
    "style": draft_style,
    "tone": draft_tone,
    "hybrid": draft_hybrid,
    "segment": draft_segment,
    "reference_add": draft_reference_add,
    "reference_swap": draft_reference_swap,
}
TASKS: tuple[str, ...] = tuple(DRAFTS)
REFERENCE_TASKS = ("reference_add", "reference_swap")
