"""The target scene taken apart: what lies under each thing, what of it the nearer things and the light leave.

Place: scene, render -> stage -> alternatives. With both at hand, what a picture would be with one thing otherwise
(another shape, place, size, gone) differs from the truth by a few operations on a small window, exactly but for
rounding and clipping: nothing else has to be painted again.
Shapes: under_FhwC, keep_Fhw1 of a thing's window; frames_FHWC float32 0..255.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from .limits import SHIFT, SIZE_FACTORS
from .photo import expose, light_of, reach_of_shadow
from .render import Sprite, apply_pixel_look, sprite_in, sprite_of
from .scene.contents import PIXEL_STYLES, TONE_LOOKS, Scene, Thing
from .scene.grounds import Picture, ground_frames

Box = tuple[int, int, int, int]  # left, top, right, bottom
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """One thing of the target, or one that was taken away (then is_there is False), in its window."""

    thing: Thing
    is_there: bool
    box: Box
    under: np.ndarray  # (F, h, w, 3), before the thing is laid on it
    keep: np.ndarray  # (F, h, w, 1): what nearer things and the light leave of a difference

    @property
    def part(self) -> tuple[slice, slice, slice]:
        left, top, right, bottom = self.box
        return slice(None), slice(top, bottom), slice(left, right)


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """The scene, its levels from back to front, its frames before its look, and what is seen of the ground."""

    scene: Scene
    times_F: np.ndarray
    levels: tuple[Level, ...]
    plain_FHWC: np.ndarray  # uint8
    ground_keep: np.ndarray  # (F, H, W, 1)


def scene_at(scene: Scene, numbers: tuple[int, ...] | None) -> Scene:
    """The scene with only those frames of a film as its ground."""
    ground = scene.ground
    if numbers is None or not isinstance(ground, Picture) or ground.pixels.ndim < 4 or len(ground.pixels) == 1:
        return scene
    return replace(scene, ground=Picture(ground.pixels[list(numbers)]))


def _centers(thing: Thing, scene: Scene, times_F: np.ndarray) -> np.ndarray:
    centers_F2 = thing.centers(times_F, scene.canvas)
    return centers_F2[:1] if (centers_F2 == centers_F2[:1]).all() else centers_F2


def box_of(thing: Thing, scene: Scene, times_F: np.ndarray) -> Box | None:
    """The window that holds the thing and all its alternatives; None where the canvas never shows it."""
    unit, canvas = scene.canvas.unit, scene.canvas
    radius = max(SIZE_FACTORS) * thing.radius * unit
    reach = max(1.1 * radius, 1.1 * thing.radius * unit + SHIFT * unit)
    reach += reach_of_shadow(thing.radius * unit, scene.finish, canvas) + 1.0
    centers_F2 = thing.centers(times_F, canvas)
    low, high = centers_F2.min(axis=0) - reach, centers_F2.max(axis=0) + reach
    left, top = max(0, math.floor(low[0])), max(0, math.floor(low[1]))
    right, bottom = min(canvas.width, math.ceil(high[0]) + 1), min(canvas.height, math.ceil(high[1]) + 1)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _lay(under: np.ndarray, sprite: Sprite) -> np.ndarray:
    base = under if sprite.dim is None else under * sprite.dim
    return base + sprite.alpha * (sprite.color - base)


def sprite_on(stage: Stage, level: Level, thing: Thing) -> Sprite:
    """A thing in the window of a level."""
    scene = stage.scene
    return sprite_in(level.box, thing, scene.canvas, scene.finish, _centers(thing, scene, stage.times_F))


def window_with(stage: Stage, level: Level, thing: Thing | None) -> np.ndarray:
    """The level's window with that thing instead, before nearer things and the light: (F, h, w, 3)."""
    return level.under if thing is None else _lay(level.under, sprite_on(stage, level, thing))


def build_stage(scene: Scene, times_F: np.ndarray, gone: tuple[Thing, ...] = ()) -> Stage:
    """gone: things of the source that the target has not."""
    times = tuple(times_F.tolist())
    frames = np.empty((len(times_F), *scene.canvas.size, 3), dtype=np.float32)
    frames[:] = ground_frames(scene.ground, scene.canvas, times_F)
    order = sorted([(thing, True) for thing in scene.things] + [(thing, False) for thing in gone], key=_depth)
    found: list[tuple[Thing, bool, Box | None, np.ndarray, Sprite | None]] = []
    for thing, is_there in order:
        box = box_of(thing, scene, times_F)
        under = frames[:0] if box is None else frames[:, box[1] : box[3], box[0] : box[2]].copy()
        sprite = sprite_of(thing, scene.canvas, scene.finish, times) if is_there else None
        if sprite is not None:
            frames[sprite.part] = _lay(frames[sprite.part], sprite)
        found.append((thing, is_there, box, under, sprite))
    keep = np.ones((*frames.shape[:3], 1), dtype=np.float32)
    if scene.finish.kind == "photo":
        keep *= light_of(scene.finish, scene.canvas)
        frames = expose(frames, scene.finish, scene.canvas)
    levels = []
    for thing, is_there, box, under, sprite in reversed(found):
        if box is not None:
            levels.append(Level(thing, is_there, box, under, keep[:, box[1] : box[3], box[0] : box[2]].copy()))
        if sprite is not None:
            keep[sprite.part] *= (1.0 - sprite.alpha) * (1.0 if sprite.dim is None else sprite.dim)
    return Stage(scene, times_F, tuple(reversed(levels)), np.rint(frames).astype(np.uint8), keep)


def _depth(entry: tuple[Thing, bool]) -> tuple[int, int]:
    return entry[0].depth, entry[0].place


def look_difference(look: str | None, difference: np.ndarray) -> np.ndarray:
    """What a look of pixels makes of a difference (..., 3) of pictures: looks are linear, but for clipping."""
    if look == "invert":
        return -difference
    if look == "grayscale":
        return np.repeat((difference @ LUMA)[..., None], 3, axis=-1)
    if look in TONE_LOOKS:
        return difference * GAINS[look]
    return difference


GAINS = {
    "darker": np.array([0.55, 0.55, 0.55], dtype=np.float32),
    "brighter": np.array([0.55, 0.55, 0.55], dtype=np.float32),
    "warmer": np.array([0.55, 1.0, 0.55], dtype=np.float32),
    "cooler": np.array([0.55, 1.0, 0.55], dtype=np.float32),
}


def with_look(look: str | None, plain_FHWC: np.ndarray) -> np.ndarray:
    """The picture under a look of pixels, or as it is."""
    return apply_pixel_look(look, plain_FHWC) if look in TONE_LOOKS or look in PIXEL_STYLES else plain_FHWC
