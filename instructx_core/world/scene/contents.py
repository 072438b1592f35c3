"""What a picture contains, as frozen dataclasses: things on a ground, how they move, and how the picture is finished.

Place: canvas, palette, grounds -> contents -> draw, render, edits. A Scene says everything, also the look laid over the
finished picture (style, tone, segmentation), so an edit maps Scene to Scene and the ground truth is its render.
Lengths are in units (canvas.py). A place holds at most one thing, which makes the place the identity of a thing.
Shapes: times_F in [0, 1]; centers_F2 in pixels (x, y).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from .canvas import PLACES, Canvas
from .grounds import Ground
from .palette import COLORS

Modality = Literal["image", "video"]
Side = Literal["left", "right", "top", "bottom"]
MODALITIES: tuple[Modality, ...] = ("image", "video")
FRAMES: dict[str, int] = {"image": 1, "video": 17}

STYLES = ("invert", "grayscale", "outline")
PIXEL_STYLES = ("invert", "grayscale")  # functions of pixels alone: these exist for any picture
TONE_LOOKS = ("darker", "brighter", "warmer", "cooler")
PATTERNS = ("halves 0", "halves 45", "halves 90", "quarters", "bullseye", "band")

SIZES = ("small", "medium", "large")
RADII: dict[str, tuple[float, float]] = {"small": (6.0, 7.5), "medium": (9.0, 12.0), "large": (14.0, 17.0)}  # units
NEW_RADII: dict[str, float] = {"small": 7.0, "medium": 11.0, "large": 15.5}  # units, of a thing that an edit brings in
SIZE_BOUNDS = (8.25, 13.0)  # units, between the classes
GLIDE = 0.375  # of the clip: how long a thing takes to come in or to go out
OUTSIDE = 3.0  # units between the border and a thing that has not come in yet


@dataclass(frozen=True, slots=True)
class Pattern:
    """A two-colour filling that no word names."""

    kind: str  # one of PATTERNS
    first: tuple[int, int, int]
    second: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Motion:
    """Path of a thing around its centre, in units, and when it comes in over the border or goes out over it.

    At time `enter` it stands just outside the picture and has arrived GLIDE later; at time `leave` it starts to go and
    is out GLIDE later. None: it is there from the first frame, or to the last one.
    """

    kind: Literal["still", "drift", "sine"] = "still"
    dx: float = 0.0  # amplitude
    dy: float = 0.0
    phase: float = 0.0  # turns
    cycles: float = 1.0  # a clip
    enter: float | None = None  # time in [0, 1]
    leave: float | None = None
    side: Side = "left"  # the border it crosses

    @property
    def is_passing(self) -> bool:
        """Whether the thing is missing from a part of the clip."""
        return self.enter is not None or self.leave is not None

    def away(self, times_F: np.ndarray) -> np.ndarray:
        """How far on its way outside the thing is: (F,) from 0 (in its place) to 1 (out of the picture)."""
        times = np.asarray(times_F, dtype=np.float64)
        share = np.zeros_like(times)
        if self.enter is not None:
            share = np.maximum(share, np.clip((self.enter + GLIDE - times) / GLIDE, 0.0, 1.0))
        if self.leave is not None:
            share = np.maximum(share, np.clip((times - self.leave) / GLIDE, 0.0, 1.0))
        return share * share * (3.0 - 2.0 * share)


@dataclass(frozen=True, slots=True)
class Thing:
    """One object. Filled with a named colour, or with a pattern (then color is None)."""

    shape: str
    color: str | None
    place: int  # index into PLACES
    radius: float  # units
    offset: tuple[float, float] = (0.0, 0.0)  # units, from the centre of the place
    motion: Motion = field(default_factory=Motion)
    pattern: Pattern | None = None
    depth: int = 0  # who is in front: the larger one; equal ones by place

    @property
    def size(self) -> str:
        """One of SIZES."""
        return SIZES[sum(self.radius > bound for bound in SIZE_BOUNDS)]

    def centers(self, times_F: np.ndarray, canvas: Canvas | None = None) -> np.ndarray:
        """Centres at times (F,): (F, 2) float32 pixels (x, y), on a 1/64 pixel grid so all machines draw the same."""
        canvas = Canvas() if canvas is None else canvas
        times = np.asarray(times_F, dtype=np.float64)
        motion, unit = self.motion, canvas.unit
        if motion.kind == "drift":
            wave = 2.0 * times - 1.0
        elif motion.kind == "sine":
            wave = np.sin(2.0 * np.pi * (motion.cycles * times + motion.phase))
        else:
            wave = np.zeros_like(times)
        center = np.asarray(canvas.center(self.place), dtype=np.float64) + unit * np.asarray(self.offset)
        path = center + wave[:, None] * np.array([unit * motion.dx, unit * motion.dy])
        if motion.is_passing:
            away, beyond = motion.away(times), unit * (self.radius + OUTSIDE)
            axis = 0 if motion.side in ("left", "right") else 1
            outside = -beyond if motion.side in ("left", "top") else (canvas.width, canvas.height)[axis] + beyond
            path[:, axis] += away * (outside - path[:, axis])
        return (np.rint(path * 64.0) / 64.0).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Finish:
    """How the picture is finished: "flat" (no light at all) or "photo" (shaded, soft shadows, texture, grain)."""

    kind: Literal["flat", "photo"] = "flat"
    seed: int = 0  # of textures and grain
    angle: float = 0.0  # turns; where the light comes from: 0 from the right, 0.25 from above
    slope: float = 0.5  # of the light, 0 (from the viewer) to 1 (raking); longer shadows
    falloff: float = 0.0  # share of light lost from the lit side of the picture to the other
    shadow: float = 0.0  # share of light that a shadow takes
    grain: float = 0.0  # levels of 255, standard deviation
    relief: float = 0.0  # of things: 0 cut from paper, 1 round
    texture: float = 0.0  # of things: share of their light


FLAT = Finish()


@dataclass(frozen=True, slots=True)
class Scene:
    """A whole picture or clip."""

    ground: Ground
    things: tuple[Thing, ...]  # by place
    look: str | None = None  # one of STYLES, TONE_LOOKS or "segment", laid over the finished picture
    focus: int | None = None  # place of the thing that the look "segment" shows
    canvas: Canvas = field(default_factory=Canvas)
    finish: Finish = FLAT

    @property
    def combinations(self) -> set[tuple[str, str]]:
        return {(thing.color, thing.shape) for thing in self.things if thing.color is not None}

    @property
    def empty_places(self) -> list[int]:
        taken = {thing.place for thing in self.things}
        return [place for place in range(len(PLACES)) if place not in taken]

    @property
    def clear_places(self) -> list[int]:
        """Empty places whose middle no thing covers, at any time: nothing is there, by any reading."""
        times = np.linspace(0.0, 1.0, FRAMES["video"])
        paths = [(thing.centers(times, self.canvas), thing.radius * self.canvas.unit) for thing in self.things]
        middles = {place: np.array(self.canvas.center(place)) for place in self.empty_places}
        return [
            place
            for place, middle in middles.items()
            if all((np.abs(path - middle).max(axis=1) > radius).all() for path, radius in paths)
        ]

    @property
    def back_to_front(self) -> tuple[Thing, ...]:
        return tuple(sorted(self.things, key=lambda thing: (thing.depth, thing.place)))

    @property
    def front(self) -> int:
        """Depth of a thing in front of all."""
        return max((thing.depth for thing in self.things), default=-1) + 1

    def at(self, place: int) -> Thing:
        return next(thing for thing in self.things if thing.place == place)

    def get(self, place: int) -> Thing | None:
        return next((thing for thing in self.things if thing.place == place), None)

    def without(self, place: int) -> Scene:
        return replace(self, things=tuple(thing for thing in self.things if thing.place != place))

    def with_thing(self, thing: Thing) -> Scene:
        """The scene with that thing at its place, instead of what was there."""
        things = (*self.without(thing.place).things, thing)
        return replace(self, things=tuple(sorted(things, key=lambda each: each.place)))


@dataclass(frozen=True, slots=True)
class Change:
    """One change that an instruction asks for, before any words; language/ says it.

    kind: "add", "remove", "swap", "color", "background", a look (STYLES, TONE_LOOKS), "segment", "reference_add",
    "reference_swap", or "leave" (nothing is to change).
    """

    kind: str
    scene: Scene  # the picture that the words are about: a name must mean one thing in it
    thing: Thing | None = None  # what is changed; in a no-op it may be absent from the scene, then `full` is set
    new: Thing | None = None  # what comes: its name, its place, its size where that is not medium
    ground: str | None = None  # the new named ground
    full: bool = False  # the thing and the new one are named by colour and shape


@dataclass(frozen=True, slots=True)
class Instruction:
    """What is typed."""

    text: str
    language: str = "en"  # or "zh"
    wording: str = ""  # which wording(s) it is made of
    held_out: bool = False  # a wording or filler that only "test" shows
    traits: tuple[str, ...] = ()  # how it is typed: its case, "british", "filler", and "typo" for each


def frame_times(modality: str) -> np.ndarray:
    """Times of the frames, (F,) in [0, 1]: one for an image, 17 for a clip."""
    return np.linspace(0.0, 1.0, FRAMES[modality]) if modality == "video" else np.zeros(1)


def patterned(thing: Thing, pattern: Pattern) -> Thing:
    """The same thing filled with a pattern instead of a named colour."""
    return replace(thing, color=None, pattern=pattern)


def color_rgb(thing: Thing) -> tuple[int, int, int]:
    """RGB 0..255 of a thing with a named colour."""
    if thing.color is None:
        raise ValueError("a patterned thing has two colours; use its pattern")
    return COLORS[thing.color]
