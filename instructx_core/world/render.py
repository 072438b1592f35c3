"""Scene -> pixels: things from back to front, one-pixel antialiasing, all frames of a thing at once.

Place: grounds, distance, photo -> render -> sampling. Only the window that a thing moves in is computed, which makes a
clip cheap. Looks (style, tone, segmentation) are exact functions of the finished uint8 picture or of the things' forms:
an outline drawing has the contours of the things as they are seen, dark on white, whatever the ground and the finish.
Shapes: frames_FHWC uint8; distance_FHW float32 pixels, negative inside; cover_PFHW bool over the places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from .photo import Body, expose, reach_of_shadow, shade, shadow
from .scene.canvas import PLACES, Canvas
from .scene.contents import FLAT, PIXEL_STYLES, TONE_LOOKS, Finish, Pattern, Scene, Thing, color_rgb
from .scene.distance import signed_distance, step
from .scene.grounds import Ground, ground_frames

LINE_DARK = 30.0  # level of outline lines
SOFT_EDGE = 1.4  # pixels, of an edge in the photo finish: no lens is sharper


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """Which pixels each place's thing shows, whatever look is laid over the picture."""

    cover_PFHW: np.ndarray  # bool; visible pixels
    whole_PF: np.ndarray  # pixels on the canvas, those hidden by nearer things too


@dataclass(frozen=True, slots=True, eq=False)
class Layers(Masks):
    """A rendered scene."""

    frames_FHWC: np.ndarray
    lines_FHW: np.ndarray  # bool; contour pixels, all False unless the look is "outline"


def _pattern_weight(kind: str, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Share of the first colour, in [0, 1]."""
    if kind == "halves 0":
        return step(x)
    if kind == "halves 90":
        return step(y)
    if kind == "halves 45":
        return step((x + y) * math.sqrt(0.5))
    if kind == "quarters":
        left, top = step(x), step(y)
        return left * top + (1.0 - left) * (1.0 - top)
    if kind == "bullseye":
        return step(np.sqrt(x * x + y * y) - 0.55 * radius)
    return step(np.abs(y) - 0.3 * radius)  # band


def _fill(thing: Thing, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Colour of the thing at local coordinates in pixels: (..., 3) float32 0..255."""
    if thing.pattern is None:
        return np.array(color_rgb(thing), dtype=np.float32)
    pattern: Pattern = thing.pattern
    first, second = np.array(pattern.first, dtype=np.float32), np.array(pattern.second, dtype=np.float32)
    weight = _pattern_weight(pattern.kind, x, y, radius)[..., None]
    return second + (first - second) * weight


@dataclass(frozen=True, slots=True, eq=False)
class Sprite:
    """A thing ready to be laid on the canvas: the window it moves in and what it looks like there, in all frames."""

    part: tuple[slice, slice, slice]
    distance: np.ndarray  # (F, h, w) pixels; F is 1 where it stands still
    inside: np.ndarray  # (F, h, w) bool
    alpha: np.ndarray  # (F, h, w, 1)
    color: np.ndarray  # (F, h, w, 3), or (3,) where it is the same all over
    dim: np.ndarray | None  # (F, h, w, 1); what its shadow leaves of the light


def sprite_in(
    box: tuple[int, int, int, int], thing: Thing, canvas: Canvas, finish: Finish, centers_F2: np.ndarray
) -> Sprite:
    """The thing at these centres in a window of the canvas: left, top, right, bottom."""
    left, top, right, bottom = box
    radius = thing.radius * canvas.unit
    x = np.arange(left, right, dtype=np.float32)[None, None, :] - centers_F2[:, 0, None, None]
    y = np.arange(top, bottom, dtype=np.float32)[None, :, None] - centers_F2[:, 1, None, None]
    distance = signed_distance(thing.shape, x, y, radius)
    color, dim, edge = _fill(thing, x, y, radius), None, 1.0
    if finish.kind == "photo":
        body = Body(thing, x, y, distance, radius)
        color, dim, edge = shade(color, body, finish), shadow(body, finish, canvas), SOFT_EDGE
    part = (slice(None), slice(top, bottom), slice(left, right))
    return Sprite(part, distance, distance < 0.5, step(distance, edge)[..., None], color, dim)


@lru_cache(maxsize=12)
def sprite_of(thing: Thing, canvas: Canvas, finish: Finish, times: tuple[float, ...]) -> Sprite | None:
    """None where the canvas never shows the thing. Kept for a while: both sides of an edit show most things alike."""
    centers_F2 = thing.centers(np.array(times), canvas)
    if (centers_F2 == centers_F2[:1]).all():
        centers_F2 = centers_F2[:1]
    radius = thing.radius * canvas.unit
    reach = 1.1 * radius + reach_of_shadow(radius, finish, canvas) + 1.0
    low, high = centers_F2.min(axis=0) - reach, centers_F2.max(axis=0) + reach
    left, top = max(0, math.floor(low[0])), max(0, math.floor(low[1]))
    right, bottom = min(canvas.width, math.ceil(high[0]) + 1), min(canvas.height, math.ceil(high[1]) + 1)
    if left >= right or top >= bottom:
        return None
    return sprite_in((left, top, right, bottom), thing, canvas, finish, centers_F2)


@cache
def _tone_table(look: str) -> np.ndarray:
    """Tone looks as one table a channel: (3, 256) uint8. c' = 0.55 c pulls down, c' = 255 - 0.55 (255 - c) pulls up."""
    level = np.arange(256, dtype=np.float64)
    down, up = 0.55 * level, 255.0 - 0.55 * (255.0 - level)
    tables = {
        "darker": (down, down, down),
        "brighter": (up, up, up),
        "warmer": (up, level, down),
        "cooler": (down, level, up),
    }
    return np.rint(np.stack(tables[look])).astype(np.uint8)


def apply_pixel_look(look: str, frames_FHWC: np.ndarray) -> np.ndarray:
    """Looks that depend on pixels alone: the tones, "invert" (255 - c), "grayscale" (Rec. 601 luma)."""
    if look in TONE_LOOKS:
        table = _tone_table(look)
        return np.stack([table[channel][frames_FHWC[..., channel]] for channel in range(3)], axis=-1)
    if look == "invert":
        return 255 - frames_FHWC
    if look == "grayscale":
        red, green, blue = (frames_FHWC[..., channel].astype(np.uint32) for channel in range(3))
        luma = ((299 * red + 587 * green + 114 * blue + 500) // 1000).astype(np.uint8)
        return np.repeat(luma[..., None], 3, axis=-1)
    raise ValueError(f"look {look!r} is not a function of pixels")


def lay_ink(under: np.ndarray, distance: np.ndarray, unit: float, look: str, in_focus: bool) -> None:
    """Lays a thing's ink on what lies under it, in place: its contour, or the thing in focus; nearer things hide it."""
    alpha = step(distance)
    if look == "outline":
        line = np.clip(unit + 0.5 - np.abs(distance + 0.5 * unit), 0.0, 1.0)
        np.maximum(under * (1.0 - alpha), line, out=under)
        return
    under *= 1.0 - alpha
    if in_focus:
        under += alpha


def drawing(scene: Scene, sprites: Sequence[Sprite | None], shape_FHW: tuple[int, ...]) -> np.ndarray:
    """Ink of the outline drawing, or the mask of the thing in focus: (F, H, W) in [0, 1]."""
    ink = np.zeros(shape_FHW, dtype=np.float32)
    for thing, sprite in zip(scene.back_to_front, sprites, strict=True):
        if sprite is not None:
            under, in_focus = ink[sprite.part], thing.place == scene.focus
            lay_ink(under, sprite.distance, scene.canvas.unit, scene.look or "", in_focus)
    return ink


def _paint(scene: Scene, sprites: Sequence[Sprite | None], times_F: np.ndarray) -> np.ndarray:
    """The picture before its look: (F, H, W, 3) float32 0..255."""
    frames = np.empty((len(times_F), *scene.canvas.size, 3), dtype=np.float32)
    frames[:] = ground_frames(scene.ground, scene.canvas, times_F)
    for sprite in sprites:
        if sprite is None:
            continue
        under = frames[sprite.part]
        if sprite.dim is not None:
            under *= sprite.dim
        under += sprite.alpha * (sprite.color - under)
    return frames if scene.finish.kind == "flat" else expose(frames, scene.finish, scene.canvas)


def sprites_of(scene: Scene, times_F: np.ndarray) -> list[Sprite | None]:
    times = tuple(times_F.tolist())
    return [sprite_of(thing, scene.canvas, scene.finish, times) for thing in scene.back_to_front]


def masks_of(scene: Scene, times_F: np.ndarray) -> Masks:
    """What the things of a scene show, without painting it."""
    things = scene.back_to_front
    cover = np.zeros((len(PLACES), len(times_F), *scene.canvas.size), dtype=bool)
    whole = np.zeros((len(PLACES), len(times_F)), dtype=np.int64)
    for number, (thing, sprite) in enumerate(zip(things, sprites_of(scene, times_F), strict=True)):
        if sprite is None:
            continue
        for under in things[:number]:
            cover[under.place][sprite.part] &= ~sprite.inside
        cover[thing.place][sprite.part] = sprite.inside
        whole[thing.place] = sprite.inside.sum(axis=(1, 2))
    return Masks(cover, whole)


def render_layers(scene: Scene, times_F: np.ndarray, masks: Masks | None = None) -> Layers:
    """Render a scene at the given times ((F,) in [0, 1]); masks: its own, where they are known already."""
    masks, sprites = masks_of(scene, times_F) if masks is None else masks, sprites_of(scene, times_F)
    lines = np.zeros((len(times_F), *scene.canvas.size), dtype=bool)
    if scene.look in ("outline", "segment"):
        ink = drawing(scene, sprites, lines.shape)
        level = 255.0 - (255.0 - LINE_DARK) * ink if scene.look == "outline" else 255.0 * ink
        frames = np.repeat(np.rint(level).astype(np.uint8)[..., None], 3, axis=-1)
        lines = ink > 0.25 if scene.look == "outline" else lines
    else:
        frames = np.rint(_paint(scene, sprites, times_F)).astype(np.uint8)
        if scene.look in TONE_LOOKS or scene.look in PIXEL_STYLES:
            frames = apply_pixel_look(scene.look, frames)  # type: ignore[arg-type]
    return Layers(masks.cover_PFHW, masks.whole_PF, frames, lines)


def render(scene: Scene, times_F: np.ndarray) -> np.ndarray:
    """Pixels of a scene: (F, H, W, 3) uint8 at times_F, (F,) in [0, 1]."""
    return render_layers(scene, times_F).frames_FHWC


def render_reference(
    thing: Thing,
    canvas: Canvas | None = None,
    ground: Ground | None = None,
    finish: Finish = FLAT,
    radius: float = 11.0,
) -> np.ndarray:
    """A reference picture: that thing alone in the middle, of that radius in units, (H, W, 3) uint8; on white without
    a ground."""
    canvas = Canvas() if canvas is None else canvas
    alone = Thing(thing.shape, thing.color, PLACES.index("center"), radius, pattern=thing.pattern)
    scene = Scene("plain white" if ground is None else ground, (alone,), canvas=canvas, finish=finish)
    return render(scene, np.zeros(1))[0]
