"""Scene -> pixels: signed distances, one-pixel antialiasing, all frames of a thing at once.

Place: scene -> render -> edits. Only the quadrant of a thing is computed (a thing never leaves it), which makes a clip
cheap. Looks (style, tone, segmentation) are exact functions of the finished uint8 picture or of the distances.
Shapes: frames_FHWC uint8; distance_FHW float32 pixels, negative inside; cover_PFHW bool over the four places.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from .palette import PLACE_CENTERS, PLACES, SHAPES, SIZE, ground_image
from .scene import STYLES, TONE_LOOKS, Pattern, Scene, Thing, color_rgb

HALF = SIZE // 2
FAR = 1e3  # pixels
LINE_DARK = 30.0  # level of outline lines
STAR_INNER = 0.46  # inner over outer radius
COS36, SIN36 = 0.8090169943749475, 0.5877852522924731
_GRID = np.arange(SIZE, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Layers:
    """A rendered scene and which pixels each place's thing touches."""

    frames_FHWC: np.ndarray
    cover_PFHW: np.ndarray  # bool
    lines_FHW: np.ndarray  # bool; contour pixels, all False unless the look is "outline"


def _star(x: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    """Five points, one up: mirror three times into the wedge of one half point, then one half plane."""
    x, y = np.abs(x), -y
    for normal_x, normal_y in ((COS36, -SIN36), (-COS36, -SIN36)):
        dot = np.maximum(normal_x * x + normal_y * y, 0.0)
        x, y = x - (2.0 * normal_x) * dot, y - (2.0 * normal_y) * dot
    x = np.abs(x)
    inner_x, inner_y = STAR_INNER * r * SIN36, STAR_INNER * r * COS36
    edge_x, edge_y = inner_x, inner_y - r  # from the tip (0, r) to the inner corner
    length = math.sqrt(edge_x * edge_x + edge_y * edge_y)
    return (-edge_y / length) * x + (edge_x / length) * (y - r)


def _heart(x: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    """Two lobes over a right angle; the unit heart is 1.2 wide and 1.1 high, its tip at the origin."""
    scale = r / 0.6
    x, y = np.abs(x) / scale, 0.55 - y / scale
    lobe = np.sqrt((x - 0.25) ** 2 + (y - 0.75) ** 2) - math.sqrt(2.0) / 4.0
    along = 0.5 * np.maximum(x + y, 0.0)
    flat = np.minimum(x**2 + (y - 1.0) ** 2, (x - along) ** 2 + (y - along) ** 2)
    body = np.where(x > y, np.sqrt(flat), -np.sqrt(flat))
    return np.where(x + y > 1.0, lobe, body) * scale


def signed_distance(shape: str, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance in pixels (negative inside) of a shape at the origin; y points down, as in the picture.

    x and y are float32 arrays, every scalar a Python float: then old and new numpy round alike, to the last bit.
    """
    r = float(radius)
    ax, ay = np.abs(x), np.abs(y)
    if shape == "circle":
        return np.sqrt(x * x + y * y) - r
    if shape == "square":
        return np.maximum(ax, ay) - 0.88 * r
    if shape == "triangle":
        width, height = r, 1.8 * r
        length = math.sqrt(height * height + width * width)
        return np.maximum(y - 0.8 * r, (height / length) * ax - (width / length) * (y + r))
    if shape == "diamond":
        width = 0.76 * r
        length = math.sqrt(r * r + width * width)
        return (r / length) * ax + (width / length) * ay - r * width / length
    if shape == "star":
        return _star(x, y, r)
    if shape == "cross":
        arm, end = 0.32 * r, 0.98 * r
        return np.minimum(np.maximum(ax - end, ay - arm), np.maximum(ax - arm, ay - end))
    if shape == "ring":
        return np.abs(np.sqrt(x * x + y * y) - 0.74 * r) - 0.26 * r
    if shape == "heart":
        return _heart(x, y, r)
    raise ValueError(f"shape {shape!r} is unknown; use one of {', '.join(SHAPES)}")


def _step(distance: np.ndarray) -> np.ndarray:
    """Antialiased indicator of distance < 0."""
    return np.clip(0.5 - distance, 0.0, 1.0)


def _pattern_weight(kind: str, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Share of the first colour, in [0, 1]."""
    if kind == "halves 0":
        return _step(x)
    if kind == "halves 90":
        return _step(y)
    if kind == "halves 45":
        return _step((x + y) * math.sqrt(0.5))
    if kind == "quarters":
        left, top = _step(x), _step(y)
        return left * top + (1.0 - left) * (1.0 - top)
    if kind == "bullseye":
        return _step(np.sqrt(x * x + y * y) - 0.55 * radius)
    return _step(np.abs(y) - 0.3 * radius)  # band


def _fill(thing: Thing, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Colour of the thing at local coordinates: (..., 3) float32 0..255."""
    if thing.pattern is None:
        return np.array(color_rgb(thing), dtype=np.float32)
    pattern: Pattern = thing.pattern
    first, second = np.array(pattern.first, dtype=np.float32), np.array(pattern.second, dtype=np.float32)
    weight = _pattern_weight(pattern.kind, x, y, thing.radius)[..., None]
    return second + (first - second) * weight


def _paint(thing: Thing, centers_F2: np.ndarray, origin: tuple[int, int], canvas_FHWC: np.ndarray) -> np.ndarray:
    """Blend the thing into the canvas, a view whose first pixel is at origin (x, y); gives its distance_FHW."""
    left, top = origin
    height, width = canvas_FHWC.shape[1:3]
    x = _GRID[None, None, left : left + width] - centers_F2[:, 0, None, None]
    y = _GRID[None, top : top + height, None] - centers_F2[:, 1, None, None]
    distance = signed_distance(thing.shape, x, y, thing.radius)
    alpha = _step(distance)[..., None]
    canvas_FHWC += alpha * (_fill(thing, x, y) - canvas_FHWC)
    return distance


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


def render_layers(scene: Scene, times_F: np.ndarray) -> Layers:
    """Render a scene at the given times ((F,) in [0, 1])."""
    count = len(times_F)
    canvas = np.empty((count, SIZE, SIZE, 3), dtype=np.float32)
    canvas[:] = ground_image(scene.ground)
    cover = np.zeros((len(PLACES), count, SIZE, SIZE), dtype=bool)
    distance = np.full((count, SIZE, SIZE), FAR, dtype=np.float32) if scene.look in ("outline", "segment") else None
    for thing in scene.things:
        left, top = (c - HALF // 2 for c in PLACE_CENTERS[thing.place])
        part = (slice(None), slice(top, top + HALF), slice(left, left + HALF))
        near = _paint(thing, thing.centers(times_F), (left, top), canvas[part])
        cover[thing.place][part] = near < 0.5
        if distance is not None and (scene.look == "outline" or thing.place == scene.focus):
            distance[part] = near
    lines = np.zeros((count, SIZE, SIZE), dtype=bool)
    if distance is not None and scene.look == "outline":
        ink = np.clip(1.5 - np.abs(distance + 0.5), 0.0, 1.0)
        frames = np.repeat((255.0 - (255.0 - LINE_DARK) * ink)[..., None], 3, axis=-1)
        lines = ink > 0.25
    elif distance is not None:
        frames = np.repeat(255.0 * _step(distance)[..., None], 3, axis=-1)
    else:
        frames = canvas
    frames_uint8 = np.rint(frames).astype(np.uint8)
    if scene.look in TONE_LOOKS or scene.look in STYLES[:2]:
        frames_uint8 = apply_pixel_look(scene.look, frames_uint8)
    return Layers(frames_uint8, cover, lines)


def render(scene: Scene, times_F: np.ndarray) -> np.ndarray:
    """Pixels of a scene: (F, H, W, 3) uint8 at times_F, (F,) in [0, 1]."""
    return render_layers(scene, times_F).frames_FHWC


def render_reference(thing: Thing) -> np.ndarray:
    """A reference picture: that thing alone, centred at (32, 32) on white, (H, W, 3) uint8."""
    canvas = np.full((1, SIZE, SIZE, 3), 255.0, dtype=np.float32)
    _paint(thing, np.array([[HALF, HALF]], dtype=np.float32), (0, 0), canvas)
    return np.rint(canvas[0]).astype(np.uint8)
