"""How a scene is drawn at random: things of several sizes that may overlap, their motions, the ground and the finish.

Place: contents, grounds -> draw -> edits, sampling. What was asked for (size, modality, finish, a picture as ground) is
a Setting. Rules that need pixels (visibility, contrast) are checked after rendering, in visible.py; a scene that breaks
one is drawn again.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import numpy as np

from .canvas import CENTER, PLACES, Canvas
from .contents import (
    FLAT,
    GLIDE,
    NEW_RADII,
    PATTERNS,
    RADII,
    SIZES,
    Finish,
    Motion,
    Pattern,
    Scene,
    Side,
    Thing,
    frame_times,
)
from .grounds import Ground, Photographic, Picture, ground_colors, ground_frames, is_named
from .palette import COMBINATIONS, GROUNDS, HELD_OUT, MIN_CONTRAST, color_distance
from .photographic import FAMILIES

Option = TypeVar("Option")

JITTER = 3.0  # units, around the centre of the place, where the sides are 64 units
AMPLITUDE = (2.5, 6.0)  # units, of a motion, where the sides are 64 units
OVERHANG = 0.2  # share of a large thing's radius that may lie beyond the border
SIZE_SHARES = (0.2, 0.6, 0.2)  # of SIZES
CROWDED_SIZE_SHARES = (0.1, 0.5, 0.4)
CROWDED_SHARE = 0.5  # of scenes have their things close together
FARTHEST = 9.0  # units from the centre of its place that a thing may be on average, where the sides are 64 units
PULL = (0.25, 0.45)  # share of the way to the middle
PASSING_SHARE = 0.25  # of the things of a clip come in, or go out
PHOTO_SHARE = 0.5  # of scenes have the photo finish
NAMED_SHARE = {"flat": 0.85, "photo": 0.3}  # of scenes of that finish have a named ground
PAN_SHARE = 0.4  # of photographic grounds of clips
VIVID_SHARE = 0.35  # of photographic grounds
NATURAL_VIVID_SHARE = 0.75  # of natural pictures
NATURAL_FAMILIES = (0.15, 0.1, 0.12, 0.25, 0.05, 0.11, 0.12, 0.08, 0.02)  # shares of FAMILIES in natural pictures
MOST = 4  # things


class Redraw(Exception):
    """The draw led nowhere (no free combination, edit invisible); the caller draws again from the same generator."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a scene is drawn for."""

    modality: str = "image"
    canvas: Canvas = field(default_factory=Canvas)
    held_out: bool = False  # show a held-out combination
    finish: Literal["flat", "photo"] | None = None  # None: drawn
    picture: Picture | None = None  # to be the ground


def choose(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    """One element of a sequence, evenly."""
    return options[int(rng.integers(len(options)))]


def choose_weighted(rng: np.random.Generator, options: Sequence[Option], shares: Sequence[float]) -> Option:
    """One element of a sequence, by its share; the shares sum to 1."""
    number, level = 0, float(rng.random())
    while number < len(options) - 1 and level >= shares[number]:
        level -= shares[number]
        number += 1
    return options[number]


def draw_combination(
    rng: np.random.Generator,
    taken: set[tuple[str, str]],
    held_out: bool = False,
    color: str | None = None,
    shape: str | None = None,
    not_color: str | None = None,
    not_shape: str | None = None,
) -> tuple[str, str]:
    """A (colour, shape) that is not taken, held out or not as asked. Raises Redraw where there is none."""
    options = [
        (c, s)
        for c, s in COMBINATIONS
        if ((c, s) in HELD_OUT) == held_out
        and (c, s) not in taken
        and (color is None or c == color)
        and (shape is None or s == shape)
        and c != not_color
        and s != not_shape
    ]
    if not options:
        raise Redraw
    return choose(rng, options)


def _draw_passing(rng: np.random.Generator, place: int) -> tuple[float | None, float | None, Side]:
    """Times of coming in and going out, and the border: one of those next to the place."""
    sides: tuple[Side, ...] = ("left", "right", "top", "bottom")
    if place != CENTER:
        sides = (sides[place % 2], sides[2 + place // 2])
    side = choose(rng, sides)
    kind = choose_weighted(rng, ("enter", "leave", "both"), (0.5, 0.35, 0.15))
    enter = float(rng.integers(1, 8)) / 16.0 if kind == "enter" else 0.0
    leave = float(rng.integers(3, 10)) / 16.0 if kind == "leave" else 1.0 - GLIDE
    return (enter if kind != "leave" else None, leave if kind != "enter" else None, side)


def _draw_motion(rng: np.random.Generator, place: int, stretch: tuple[float, float], is_passing: bool) -> Motion:
    kind = choose(rng, ("still", "drift", "drift", "sine", "sine"))
    motion = Motion()
    if kind != "still":
        reach = float(rng.uniform(*AMPLITUDE))
        angle = 2.0 * np.pi * int(rng.integers(16)) / 16.0
        dx, dy = reach * float(np.cos(angle)) * stretch[0], reach * float(np.sin(angle)) * stretch[1]
        motion = Motion(kind, dx, dy, float(rng.uniform()), float(choose(rng, (0.5, 1.0))))
    if is_passing:
        enter, leave, side = _draw_passing(rng, place)
        motion = replace(motion, enter=enter, leave=leave, side=side)
    return motion


def draw_thing(
    rng: np.random.Generator, combination: tuple[str, str], place: int, setting: Setting, pull: float = 0.0
) -> Thing:
    """A thing of that colour and shape around its place, inside the picture, moving only in a clip.

    pull: share of the way to the middle of the picture that it is moved, so that things overlap; it is larger then.
    """
    size = choose_weighted(rng, SIZES, CROWDED_SIZE_SHARES if pull else SIZE_SHARES)
    radius = float(rng.uniform(*RADII[size]))
    extent = setting.canvas.extent
    stretch = (extent[0] / 64.0, extent[1] / 64.0)
    motion = Motion()
    if setting.modality == "video":
        motion = _draw_motion(rng, place, stretch, bool(rng.random() < PASSING_SHARE))
    border = radius * (1.0 - OVERHANG if size == "large" else 1.0) + 0.5
    amplitudes, offset = [motion.dx, motion.dy], []
    for axis, (center, unit) in enumerate(zip(setting.canvas.center(place), (setting.canvas.unit,) * 2, strict=True)):
        low, high = border - center / unit, extent[axis] - border - center / unit
        room = (high - low) / 2.0
        amplitudes[axis] = float(np.clip(amplitudes[axis], -room, room))
        reach = abs(amplitudes[axis])
        jitter = float(rng.uniform(-JITTER, JITTER)) * stretch[axis]
        offset.append(float(np.clip(jitter, low + reach, high - reach)))
    motion = replace(motion, dx=amplitudes[0], dy=amplitudes[1])
    thing = Thing(combination[1], combination[0], place, radius, (offset[0], offset[1]), motion)
    return _pulled(thing, setting.canvas, pull) if pull else thing


def _pulled(thing: Thing, canvas: Canvas, share: float) -> Thing:
    """The thing moved towards the middle of the picture by that share of the way, but never far from its place."""
    offset = []
    for axis, (middle, center) in enumerate(zip(canvas.center(CENTER), canvas.center(thing.place), strict=True)):
        # The middle of half a wave lies 0.64 amplitudes from the centre.
        reach = FARTHEST * canvas.extent[axis] / 64.0 - 0.64 * abs((thing.motion.dx, thing.motion.dy)[axis])
        offset.append(float(np.clip(thing.offset[axis] + share * (middle - center) / canvas.unit, -reach, reach)))
    return replace(thing, offset=(offset[0], offset[1]))


def new_thing(rng: np.random.Generator, combination: tuple[str, str], place: int, scene: Scene) -> Thing:
    """A still thing that an edit brings in: in the middle of its place, in front of all, of a size words can say."""
    size = choose_weighted(rng, SIZES, (0.15, 0.7, 0.15))
    return move_inside(Thing(combination[1], combination[0], place, NEW_RADII[size], depth=scene.front), scene.canvas)


def move_inside(thing: Thing, canvas: Canvas) -> Thing:
    """The thing moved inwards, where it would stick out of the picture at its place."""
    offset, border = [], thing.radius + 0.5
    for axis, center in enumerate(canvas.center(thing.place)):
        low, high = border - center / canvas.unit, canvas.extent[axis] - border - center / canvas.unit
        offset.append(float(np.clip(0.0, low, high)))
    return replace(thing, offset=(offset[0], offset[1]))


def draw_finish(rng: np.random.Generator, kind: str | None = None) -> Finish:
    """A finish of that kind, or of either."""
    is_photo = rng.random() < PHOTO_SHARE if kind is None else kind == "photo"
    if not is_photo:
        return FLAT
    return Finish(
        kind="photo",
        seed=int(rng.integers(1 << 31)),
        angle=int(rng.integers(2, 15)) / 32.0,  # from above, 22 to 157 degrees
        slope=float(rng.uniform(0.35, 0.75)),
        falloff=float(rng.uniform(0.0, 0.3)),
        shadow=float(rng.uniform(0.3, 0.65)),
        grain=float(rng.uniform(0.0, 3.0)),
        relief=float(rng.uniform(0.25, 1.0)),
        texture=float(rng.uniform(0.0, 0.14)),
    )


def draw_photographic(
    rng: np.random.Generator, modality: str, vivid_share: float = VIVID_SHARE, shares: Sequence[float] | None = None
) -> Photographic:
    """A photographic ground; in clips some pan. shares: of the families; evenly without."""
    family = choose(rng, FAMILIES) if shares is None else choose_weighted(rng, FAMILIES, shares)
    seed = int(rng.integers(1 << 31))
    vivid, pan = bool(rng.random() < vivid_share), (0.0, 0.0)
    if modality == "video" and rng.random() < PAN_SHARE:
        pan = (float(rng.integers(-12, 13)), float(rng.integers(-4, 5)))
    return Photographic(family, seed, pan, vivid)


def draw_ground(rng: np.random.Generator, setting: Setting, finish: Finish) -> Ground:
    """The picture where one is given; else a named or a photographic ground."""
    if setting.picture is not None:
        return setting.picture
    if rng.random() < NAMED_SHARE[finish.kind]:
        return choose(rng, GROUNDS)
    return draw_photographic(rng, setting.modality)


def draw_scene(
    rng: np.random.Generator,
    setting: Setting,
    first: tuple[str, str] | None = None,
    counts: tuple[int, int] = (1, MOST),
) -> tuple[Scene, Thing | None]:
    """A scene of that many things, none held out unless `first` is; and the thing drawn first (`first` if given)."""
    count = int(rng.integers(counts[0], counts[1] + 1))
    places = [int(place) for place in rng.permutation(len(PLACES))[:count]]
    depths = [int(depth) for depth in rng.permutation(count)]
    combinations: list[tuple[str, str]] = [] if first is None else [first]
    while len(combinations) < count:
        combinations.append(draw_combination(rng, set(combinations)))
    pull = float(rng.uniform(*PULL)) if count > 1 and rng.random() < CROWDED_SHARE else 0.0
    things = [draw_thing(rng, combinations[k], places[k], setting, pull) for k in range(count)]
    things = [replace(thing, depth=depth) for thing, depth in zip(things, depths, strict=True)]
    finish = draw_finish(rng, setting.finish)
    if setting.picture is not None:  # a photo has its own light and grain; without things it stays as it is
        finish = replace(finish, falloff=0.0, grain=0.0) if things else FLAT
    ground = draw_ground(rng, setting, finish)
    ordered = tuple(sorted(things, key=lambda each: each.place))
    scene = Scene(ground, ordered, canvas=setting.canvas, finish=finish)
    return scene, things[0] if things else None


def draw_natural(rng: np.random.Generator, setting: Setting) -> Scene:
    """A natural picture: a photographic ground without any thing, often with strong colours, through a camera."""
    ground = draw_photographic(rng, setting.modality, NATURAL_VIVID_SHARE, NATURAL_FAMILIES)
    return Scene(ground, (), canvas=setting.canvas, finish=draw_finish(rng, setting.finish))


def _vivid(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.7, 1.0), rng.uniform(0.45, 1.0))
    return round(255 * red), round(255 * green), round(255 * blue)


def stands_out(colors: Sequence[tuple[int, int, int]], ground: Ground, canvas: Canvas, modality: str) -> bool:
    """Whether each of the colours is far from (nearly) every pixel of the ground."""
    if is_named(ground):
        pixels = ground_colors(ground)  # type: ignore[arg-type]
    else:
        pixels = ground_frames(ground, canvas, frame_times(modality))[0, 2::8, 2::8].reshape(-1, 3)
    return all(float((color_distance(pixels, color) >= MIN_CONTRAST).mean()) >= 0.95 for color in colors)


def draw_pattern(rng: np.random.Generator, scene: Scene, modality: str) -> Pattern:
    """Two vivid colours far from each other and from the ground."""
    for _ in range(100):
        first, second = _vivid(rng), _vivid(rng)
        apart = float(color_distance(first, second)) >= 0.3
        if apart and stands_out((first, second), scene.ground, scene.canvas, modality):
            return Pattern(choose(rng, PATTERNS), first, second)
    raise Redraw
