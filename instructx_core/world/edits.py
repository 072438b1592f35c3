"""The twelve tasks: a scene, what to change, and which pixels must change; no words yet.

Place: scene, draw -> edits -> sampling, which renders a Draft and has language/ say its changes. A task changes Scene
to Scene, so the target is rendered, never painted over the source. The tasks are those of the paper's section 4 (add,
remove, swap, colour, background, style, tone, hybrid, segmentation, reference editing) and "noop": asked to leave all
as it is, to change what is not there, or to make what already is so; the right answer is the source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from .scene.canvas import PLACES
from .scene.contents import NEW_RADII, PIXEL_STYLES, STYLES, TONE_LOOKS, Change, Scene, Thing, patterned
from .scene.draw import (
    MOST,
    Redraw,
    Setting,
    choose,
    draw_combination,
    draw_natural,
    draw_pattern,
    draw_scene,
    move_inside,
    new_thing,
)
from .scene.grounds import is_named
from .scene.palette import GROUNDS, SHAPES

# A region is the visible footprint of one place (its index), or "objects", "ground", "lines", "rest".
RegionSpec = tuple[str, "int | str"]
EMPTY_SHARE = 0.1  # of the additions start from a scene without any thing
NATURAL_SHARE = 0.2  # of the edits of style and tone are of a natural picture
NOOPS = ("leave", "absent", "already")


@dataclass(frozen=True, slots=True)
class Draft:
    """An edit before rendering and before words."""

    source: Scene
    target: Scene
    changes: tuple[Change, ...]
    regions: tuple[RegionSpec, ...]
    sub_kind: str = ""
    reference: Thing | None = None
    all_regions_change: bool = False  # doing nothing must fail in every region, not only in one
    is_ordered: bool = False  # the changes must be said in this order


@dataclass(frozen=True, slots=True)
class LocalEdit:
    """One change at one place."""

    target: Scene
    change: Change
    place: int
    sub_kind: str


def _add(rng: np.random.Generator, scene: Scene, held_out: bool, full: bool) -> LocalEdit:
    place = choose(rng, scene.empty_places)
    thing = new_thing(rng, draw_combination(rng, scene.combinations, held_out), place, scene)
    return LocalEdit(scene.with_thing(thing), Change("add", scene, new=thing, full=full), place, "add")


def _remove(rng: np.random.Generator, scene: Scene, thing: Thing, held_out: bool, full: bool) -> LocalEdit:
    return LocalEdit(scene.without(thing.place), Change("remove", scene, thing, full=full), thing.place, "remove")


def _swap(rng: np.random.Generator, scene: Scene, thing: Thing, held_out: bool, full: bool) -> LocalEdit:
    keep = thing.color if rng.random() < 0.5 else None
    color, shape = draw_combination(rng, scene.combinations, held_out, color=keep, not_shape=thing.shape)
    new = replace(thing, color=color, shape=shape)
    kind = "swap shape" if color == thing.color else "swap both"
    return LocalEdit(scene.with_thing(new), Change("swap", scene, thing, new, full=full), thing.place, kind)


def _color(rng: np.random.Generator, scene: Scene, thing: Thing, held_out: bool, full: bool) -> LocalEdit:
    color, _ = draw_combination(rng, scene.combinations, held_out, shape=thing.shape, not_color=thing.color)
    new = replace(thing, color=color)
    return LocalEdit(scene.with_thing(new), Change("color", scene, thing, new, full=full), thing.place, "color")


CHANGES: dict[str, Callable[..., LocalEdit]] = {"remove": _remove, "swap": _swap, "color": _color}


def scene_for(rng: np.random.Generator, setting: Setting, counts: tuple[int, int] = (1, MOST)) -> tuple[Scene, Thing]:
    """A scene whose first thing is a held-out combination where the setting asks for one."""
    first = draw_combination(rng, set(), held_out=True) if setting.held_out else None
    scene, thing = draw_scene(rng, setting, first, counts)
    return scene, thing  # type: ignore[return-value]  # there is one: counts start at 1


def _maybe_empty(rng: np.random.Generator, setting: Setting) -> Scene:
    """A scene for edits that need no thing: a natural picture now and then; a picture of the caller's has no things."""
    if setting.picture is not None:
        return draw_scene(rng, setting, None, (0, 0))[0]
    if not setting.held_out and rng.random() < NATURAL_SHARE:
        return draw_natural(rng, setting)
    return scene_for(rng, setting)[0]


def _held_side(rng: np.random.Generator, name: str, held_out: bool) -> tuple[bool, bool]:
    """Whether the thing before the edit and the one after it are held-out combinations."""
    if not held_out or name == "remove":
        return held_out, False
    if name == "add":
        return False, True
    before = rng.random() < 0.5
    return before, not before


def draft_local(name: str, rng: np.random.Generator, setting: Setting) -> Draft:
    before, after = _held_side(rng, name, setting.held_out)
    if name == "add" and rng.random() < EMPTY_SHARE:
        scene = draw_scene(rng, setting, None, (0, 0))[0]
        edit = _add(rng, scene, after, False)
    else:
        scene, thing = scene_for(rng, replace(setting, held_out=before))
        edit = _add(rng, scene, after, False) if name == "add" else CHANGES[name](rng, scene, thing, after, False)
    return Draft(scene, edit.target, (edit.change,), (("object", edit.place),), edit.sub_kind)


def _new_ground(rng: np.random.Generator, scene: Scene) -> str:
    return choose(rng, [ground for ground in GROUNDS if ground != scene.ground])


def draft_background(rng: np.random.Generator, setting: Setting) -> Draft:
    scene, _ = scene_for(rng, setting)
    ground = _new_ground(rng, scene)
    change = Change("background", scene, ground=ground)
    return Draft(scene, replace(scene, ground=ground), (change,), (("ground", "ground"),), "background")


def draft_style(rng: np.random.Generator, setting: Setting) -> Draft:
    scene = _maybe_empty(rng, setting)
    # An outline drawing shows the things' outlines; a picture without things has but its pixels.
    look = choose(rng, STYLES if scene.things else PIXEL_STYLES)
    regions: tuple[RegionSpec, ...] = (("objects", "objects"), ("ground", "rest"))
    if look == "outline":
        regions = (("lines", "lines"), ("rest", "rest"))
    return Draft(scene, replace(scene, look=look), (Change(look, scene),), regions, look)


def draft_tone(rng: np.random.Generator, setting: Setting) -> Draft:
    scene = _maybe_empty(rng, setting)
    look = choose(rng, TONE_LOOKS)
    regions = (("objects", "objects"), ("ground", "rest"))
    return Draft(scene, replace(scene, look=look), (Change(look, scene),), regions, look)


def draft_segment(rng: np.random.Generator, setting: Setting) -> Draft:
    scene, thing = scene_for(rng, setting)
    target = replace(scene, look="segment", focus=thing.place)
    regions = (("object", thing.place), ("rest", "rest"))
    return Draft(scene, target, (Change("segment", scene, thing),), regions, "segment")


def _second_local(rng: np.random.Generator, scene: Scene, edit: LocalEdit, thing: Thing) -> LocalEdit:
    """Another thing is changed too. Its combination is new to the source and to the first edit."""
    others = [other for other in scene.things if other.place not in (edit.place, thing.place)]
    if not others:
        raise Redraw
    other = choose(rng, others)
    # Combinations of the source and of the first edit are both taken: no name means two things in any order.
    both = replace(scene, things=scene.things + edit.target.things)
    second = CHANGES[choose(rng, ("remove", "swap", "color"))](rng, both, other, False, True)
    target = edit.target.without(other.place)
    changed = second.change.new
    return replace(second, target=target if changed is None else target.with_thing(changed))


def draft_hybrid(rng: np.random.Generator, setting: Setting) -> Draft:
    """A local edit, then a second one: another thing, the background, or the tone of the whole picture (last)."""
    second = choose(rng, ("local", "background", "tone"))
    name = choose(rng, ("add", "remove", "swap", "color"))
    before, after = _held_side(rng, name, setting.held_out)
    scene, thing = scene_for(rng, replace(setting, held_out=before), (2 if second == "local" else 1, MOST))
    edit = _add(rng, scene, after, True) if name == "add" else CHANGES[name](rng, scene, thing, after, True)
    target, regions = edit.target, (("object", edit.place),)
    if second == "tone":
        look = choose(rng, TONE_LOOKS)
        target, change = replace(target, look=look), Change(look, scene)
        regions += (("rest", "rest"),)
    elif second == "background":
        ground = _new_ground(rng, scene)
        target, change = replace(target, ground=ground), Change("background", scene, ground=ground)
        regions += (("ground", "ground"),)
    else:
        other = _second_local(rng, scene, edit, thing)
        target, change = other.target, other.change
        regions += (("object 2", other.place),)
    changes = (edit.change, change)
    return Draft(scene, target, changes, regions, f"{name} + {second}", None, True, is_ordered=second == "tone")


def _reference_thing(rng: np.random.Generator, scene: Scene, place: int, modality: str) -> Thing:
    thing = Thing(choose(rng, SHAPES), None, place, NEW_RADII["medium"], depth=scene.front)
    return patterned(move_inside(thing, scene.canvas), draw_pattern(rng, scene, modality))


def draft_reference_add(rng: np.random.Generator, setting: Setting) -> Draft:
    scene, _ = scene_for(rng, setting)
    thing = _reference_thing(rng, scene, choose(rng, scene.empty_places), setting.modality)
    regions = (("object", thing.place),)
    change = Change("reference_add", scene, new=thing)
    return Draft(scene, scene.with_thing(thing), (change,), regions, "reference_add", thing)


def draft_reference_swap(rng: np.random.Generator, setting: Setting) -> Draft:
    scene, old = scene_for(rng, setting)
    thing = replace(patterned(old, draw_pattern(rng, scene, setting.modality)), shape=choose(rng, SHAPES))
    regions = (("object", old.place),)
    change = Change("reference_swap", scene, old, thing)
    return Draft(scene, scene.with_thing(thing), (change,), regions, "reference_swap", thing)


def _absent(rng: np.random.Generator, scene: Scene) -> Change:
    """A change of a thing that is not there, named in full; often its colour or its shape is."""
    near = choose(rng, scene.things)
    color, shape = choose(rng, ((near.color, None), (None, near.shape), (None, None)))
    color, shape = draw_combination(rng, scene.combinations, False, color=color, shape=shape)
    if isinstance(scene.ground, str) and scene.ground.startswith(color):
        raise Redraw  # "the blue circle" could be one of blue dots
    missing = Thing(shape, color, choose(rng, range(len(PLACES))), NEW_RADII["medium"])
    kind = choose(rng, ("remove", "color", "swap"))
    edit = CHANGES[kind](rng, replace(scene, things=(*scene.things, missing)), missing, False, True)
    return replace(edit.change, scene=scene)


def draft_noop(rng: np.random.Generator, setting: Setting) -> Draft:
    """Nothing changes; see NOOPS."""
    kind = choose(rng, NOOPS)
    if kind == "leave" and setting.picture is None and not setting.held_out and rng.random() < NATURAL_SHARE:
        scene = draw_natural(rng, setting)
        return Draft(scene, scene, (Change("leave", scene),), (), kind)
    scene, thing = scene_for(rng, setting)
    if kind == "leave":
        change = Change("leave", scene)
    elif kind == "absent":
        change = _absent(rng, scene)
    elif is_named(scene.ground) and rng.random() < 0.3:
        change = Change("background", scene, ground=scene.ground)  # type: ignore[arg-type]
    else:
        change = Change("color", scene, thing, thing, full=bool(rng.random() < 0.5))
    return Draft(scene, scene, (change,), (), kind)


DRAFTS: dict[str, Callable[[np.random.Generator, Setting], Draft]] = {
    "add": lambda rng, setting: draft_local("add", rng, setting),
    "remove": lambda rng, setting: draft_local("remove", rng, setting),
    "swap": lambda rng, setting: draft_local("swap", rng, setting),
    "color": lambda rng, setting: draft_local("color", rng, setting),
    "background": draft_background,
    "style": draft_style,
    "tone": draft_tone,
    "hybrid": draft_hybrid,
    "segment": draft_segment,
    "reference_add": draft_reference_add,
    "reference_swap": draft_reference_swap,
    "noop": draft_noop,
}
TASKS: tuple[str, ...] = tuple(DRAFTS)
REFERENCE_TASKS = tuple(task for task in TASKS if task.startswith("reference_"))
