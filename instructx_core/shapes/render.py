"""Scene -> pixels: signed distances, one-pixel antialiasing, all frames of a thing at once.

Place: scene -> render -> edits. Only the quadrant of a thing is computed (a thing never leaves it), which makes a clip
cheap. Looks (style, tone, segmentation) are exact functions of the finished uint8 picture or of the distances.
Shapes: frames_FHWC uint8; distance_FHW float32 pixels, negative inside; cover_PFHW bool over the four places.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .palette import PLACE_CENTERS, PLACES, SIZE, ground_image
from .scene import STYLES, TONE_LOOKS, Pattern, Scene, Thing, color_rgb

HALF = SIZE // 2
FAR = np.float32(1e3)
LINE_DARK = 30.0  # level of outline lines
_GRID = np.arange(SIZE, dtype=np.float32)
_STAR_INNER = 0.46  # inner over outer radius


@dataclass(frozen=True, slots=True)
class Layers:
    """A rendered scene and which pixels each place's thing touches."""

    frames_FHWC: np.ndarray
    cover_PFHW: np.ndarray  # bool
    lines_FHW: np.ndarray  # bool; contour pixels, all False unless the look is "outline"


def _star(x: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    """Five points, one up: mirror three times into the wedge of one half point, then one half plane."""
    x, y = np.abs(x), -y
    cos36, sin36 = np.float32(0.809016994), np.float32(0.587785252)
    for normal in ((cos36, -sin36), (-cos36, -sin36)):
        dot = np.maximum(normal[0] * x + normal[1] * y, 0.0)
        x, y = x - 2.0 * dot * normal[0], y - 2.0 * dot * normal[1]
    x = np.abs(x)
    inner_x, inner_y = _STAR_INNER * r * sin36, _STAR_INNER * r * cos36
    edge_x, edge_y = inner_x, inner_y - r  # from the tip (0, r) to the inner corner
    length = np.sqrt(edge_x * edge_x + edge_y * edge_y)
    return (-edge_y * x + edge_x * (y - r)) / length


def _heart(x: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    """Two quarter-turned lobes over a right angle; the unit heart is 1.2 wide and 1.1 high, its tip at the origin."""
    scale = np.float32(r / 0.6)
    x, y = np.abs(x) / scale, np.float32(0.55) - y / scale
    lobe = np.sqrt((x - 0.25) ** 2 + (y - 0.75) ** 2) - np.float32(np.sqrt(2.0) / 4.0)
    along = 0.5 * np.maximum(x + y, 0.0)
    flat = np.minimum(x**2 + (y - 1.0) ** 2, (x - along) ** 2 + (y - along) ** 2)
    body = np.sqrt(flat) * np.where(x > y, 1.0, -1.0)
    return np.where(x + y > 1.0, lobe, body) * scale


def signed_distance(shape: str, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Signed distance in pixels (negative inside) of a shape at the origin; y points down, as in the picture."""
    r = np.float32(radius)
    ax, ay = np.abs(x), np.abs(y)
    if shape == "circle":
        return np.sqrt(x * x + y * y) - r
    if shape == "square":
        return np.maximum(ax, ay) - np.float32(0.88) * r
    if shape == "triangle":
        width, height = np.float32(1.0) * r, np.float32(1.8) * r
        slope = (ax * height - (y + r) * width) / np.sqrt(height * height + width * width)
        return np.maximum(y - np.float32(0.8) * r, slope)
    if shape == "diamond":
        width = np.float32(0.76) * r
        return (ax * r + ay * width - r * width) / np.sqrt(r * r + width * width)
    if shape == "star":
        return _star(x, y, r)
    if shape == "cross":
        arm, end = np.float32(0.32) * r, np.float32(0.98) * r
        return np.minimum(np.maximum(ax - end, ay - arm), np.maximum(ax - arm, ay - end))
    if shape == "ring":
        return np.abs(np.sqrt(x * x + y * y) - np.float32(0.74) * r) - np.float32(0.26) * r
    if shape == "heart":
        return _heart(x, y, r)
    raise ValueError(f"shape {shape!r} is unknown")


def _step(distance: np.ndarray) -> np.ndarray:
    """Antialiased indicator of distance < 0."""
    return np.clip(np.float32(0.5) - distance, 0.0, 1.0)


def _pattern_weight(kind: str, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Share of the first colour, in [0, 1]."""
    if kind == "halves 0":
        return _step(x)
    if kind == "halves 90":
        return _step(y)
    if kind == "halves 45":
        return _step((x + y) * np.float32(np.sqrt(0.5)))
    if kind == "quarters":
        left, top = _step(x), _step(y)
        return left * top + (1.0 - left) * (1.0 - top)
    if kind == "bullseye":
        return _step(np.sqrt(x * x + y * y) - np.float32(0.55 * radius))
    return _step(np.abs(y) - np.float32(0.3 * radius))  # band


def _fill(thing: Thing, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Colour of the thing at local coordinates: (..., 3) float32 0..255."""
    if thing.pattern is None:
        return np.array(color_rgb(thing), dtype=np.float32)
    pattern: Pattern = thing.pattern
    first, second = np.array(pattern.first, dtype=np.float32), np.array(pattern.second, dtype=np.float32)
    weight = _pattern_weight(pattern.kind, x, y, thing.radius)[..., None]
    return second + (first - second) * weight


def _paint(thing: Thing, centers_F2: np.ndarray, origin: tuple[int, int], size: int, canvas_FHWC: np.ndarray) -> np.ndarray:
    """Blend the thing into the canvas (a view of size x size pixels at origin); gives its distance_FHW."""
    x = _GRID[None, None, origin[0] : origin[0] + size] - centers_F2[:, 0, None, None]
    y = _GRID[None, origin[1] : origin[1] + size, None] - centers_F2[:, 1, None, None]
    distance = signed_distance(thing.shape, x, y, thing.radius)
    alpha = _step(distance)[..., None]
    canvas_FHWC += alpha * (_fill(thing, x, y) - canvas_FHWC)
    return distance


@lru_cache(maxsize=None)
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
        near = _paint(thing, thing.centers(times_F), (left, top), HALF, canvas[part])
        cover[thing.place][part] = near < 0.5
        if distance is not None and (scene.look == "outline" or thing.place == scene.focus):
            distance[part] = near
    lines = np.zeros((count, SIZE, SIZE), dtype=bool)
    if scene.look == "outline":
        ink = np.clip(np.float32(1.5) - np.abs(distance + np.float32(0.5)), 0.0, 1.0)
        frames = np.repeat((255.0 - (255.0 - LINE_DARK) * ink)[..., None], 3, axis=-1)
        lines = ink > 0.25
    elif scene.look == "segment":
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
    _paint(thing, np.array([[HALF, HALF]], dtype=np.float32), (0, 0), SIZE, canvas)
    return np.rint(canvas[0]).astype(np.uint8)
