"""What a picture contains, as frozen dataclasses, and how one is drawn at random.

Place: palette -> scene -> render -> edits. A Scene says everything: ground, things, motion and the look laid over the
finished picture (style, tone, segmentation), so an edit maps Scene to Scene and the ground truth is its render.
Shapes: times_F in [0, 1]; centers_F2 in pixels (x, y).
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import numpy as np

from .palette import COLORS, COMBINATIONS, GROUNDS, HELD_OUT, MIN_CONTRAST, PLACE_CENTERS, color_distance, ground_colors

Option = TypeVar("Option")
Modality = Literal["image", "video"]
MODALITIES: tuple[Modality, ...] = ("image", "video")
FRAMES: dict[str, int] = {"image": 1, "video": 17}

STYLES = ("invert", "grayscale", "outline")
TONE_LOOKS = ("darker", "brighter", "warmer", "cooler")
PATTERNS = ("halves 0", "halves 45", "halves 90", "quarters", "bullseye", "band")

JITTER = 3.0  # pixels, around the centre of the place
RADIUS = (9.0, 12.0)  # pixels
NEW_RADIUS = 11.0  # pixels, of a thing that an edit brings in
REACH = 15.5  # pixels from the centre of the place that a thing may cover: it never leaves its quadrant


class Redraw(Exception):
    """The draw led nowhere (no free combination, edit invisible); the caller draws again from the same generator."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A two-colour filling that no word names."""

    kind: str  # one of PATTERNS
    first: tuple[int, int, int]
    second: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Motion:
    """Path of a thing around its centre; offsets in pixels."""

    kind: Literal["still", "drift", "sine"] = "still"
    dx: float = 0.0  # amplitude
    dy: float = 0.0
    phase: float = 0.0  # turns
    cycles: float = 1.0  # a clip


@dataclass(frozen=True, slots=True)
class Thing:
    """One object. Filled with a named colour, or with a pattern (then color is None)."""

    shape: str
    color: str | None
    place: int  # index into PLACES
    radius: float  # pixels
    offset: tuple[float, float] = (0.0, 0.0)  # pixels, from the centre of the place
    motion: Motion = field(default_factory=Motion)
    pattern: Pattern | None = None

    def centers(self, times_F: np.ndarray) -> np.ndarray:
        """Centres at times (F,): (F, 2) float32 pixels (x, y), on a 1/64 pixel grid so all machines draw the same."""
        times = np.asarray(times_F, dtype=np.float64)
        if self.motion.kind == "drift":
            wave = 2.0 * times - 1.0
        elif self.motion.kind == "sine":
            wave = np.sin(2.0 * np.pi * (self.motion.cycles * times + self.motion.phase))
        else:
            wave = np.zeros_like(times)
        center = np.asarray(PLACE_CENTERS[self.place], dtype=np.float64) + np.asarray(self.offset)
        path = center + wave[:, None] * np.array([self.motion.dx, self.motion.dy])
        return (np.rint(path * 64.0) / 64.0).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Scene:
    """A whole picture or clip."""

    ground: str
    things: tuple[Thing, ...]
    look: str | None = None  # one of STYLES, TONE_LOOKS or "segment", laid over the finished picture
    focus: int | None = None  # place of the thing that the look "segment" shows

    @property
    def combinations(self) -> set[tuple[str, str]]:
        return {(thing.color, thing.shape) for thing in self.things if thing.color is not None}

    @property
    def empty_places(self) -> list[int]:
        taken = {thing.place for thing in self.things}
        return [place for place in range(len(PLACE_CENTERS)) if place not in taken]

    def at(self, place: int) -> Thing:
        return next(thing for thing in self.things if thing.place == place)

    def without(self, place: int) -> Scene:
        return replace(self, things=tuple(thing for thing in self.things if thing.place != place))

    def with_thing(self, thing: Thing) -> Scene:
        """The scene with that thing at its place, instead of what was there."""
        things = (*self.without(thing.place).things, thing)
        return replace(self, things=tuple(sorted(things, key=lambda each: each.place)))


def frame_times(modality: str) -> np.ndarray:
    """Times of the frames, (F,) in [0, 1]: one for an image, 17 for a clip."""
    return np.linspace(0.0, 1.0, FRAMES[modality]) if modality == "video" else np.zeros(1)


def choose(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    """One element of a sequence, evenly."""
    return options[int(rng.integers(len(options)))]


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


def _draw_motion(rng: np.random.Generator, room: float) -> Motion:
    kind = choose(rng, ("still", "drift", "drift", "sine", "sine"))
    if kind == "still":
        return Motion()
    reach = float(rng.uniform(0.6, 1.0)) * room
    angle = 2.0 * np.pi * int(rng.integers(16)) / 16.0
    dx, dy = reach * float(np.cos(angle)), reach * float(np.sin(angle))
    return Motion(kind, dx, dy, float(rng.uniform()), float(choose(rng, (0.5, 1.0))))


def draw_thing(rng: np.random.Generator, combination: tuple[str, str], place: int, modality: str) -> Thing:
    """A thing of that colour and shape inside its quadrant, moving only in a clip."""
    radius = float(rng.uniform(*RADIUS))
    room = REACH - max(radius, NEW_RADIUS)  # also enough for a thing that replaces it
    if modality == "video":
        motion = _draw_motion(rng, room)
        slack = max(0.0, min(JITTER, room - max(abs(motion.dx), abs(motion.dy))))
    else:
        motion, slack = Motion(), min(JITTER, room)
    offset = (float(rng.uniform(-slack, slack)), float(rng.uniform(-slack, slack)))
    return Thing(combination[1], combination[0], place, radius, offset, motion)


def draw_scene(
    rng: np.random.Generator,
    modality: str,
    first: tuple[str, str] | None = None,
    min_count: int = 1,
) -> tuple[Scene, Thing]:
    """A scene of min_count..3 things, none held out unless `first` is; and the thing drawn first (`first` if given)."""
    count = int(rng.integers(min_count, 4))
    places = [int(place) for place in rng.permutation(4)[:count]]
    combinations = [draw_combination(rng, set()) if first is None else first]
    while len(combinations) < count:
        combinations.append(draw_combination(rng, set(combinations)))
    things = [draw_thing(rng, combo, place, modality) for combo, place in zip(combinations, places, strict=True)]
    ordered = tuple(sorted(things, key=lambda each: each.place))
    return Scene(choose(rng, GROUNDS), ordered), things[0]


def _vivid(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.7, 1.0), rng.uniform(0.45, 1.0))
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_pattern(rng: np.random.Generator, ground: str) -> Pattern:
    """Two vivid colours far from each other and from every pixel of the ground."""
    pixels = ground_colors(ground)
    for _ in range(100):
        first, second = _vivid(rng), _vivid(rng)
        apart = float(color_distance(first, second)) >= 0.3
        if apart and min(color_distance(pixels, first).min(), color_distance(pixels, second).min()) >= MIN_CONTRAST:
            return Pattern(choose(rng, PATTERNS), first, second)
    raise Redraw


def patterned(thing: Thing, pattern: Pattern) -> Thing:
    """The same thing filled with a pattern instead of a named colour."""
    return replace(thing, color=None, pattern=pattern)


def color_rgb(thing: Thing) -> tuple[int, int, int]:
    """RGB 0..255 of a thing with a named colour."""
    if thing.color is None:
        raise ValueError("a patterned thing has two colours; use its pattern")
    return COLORS[thing.color]
