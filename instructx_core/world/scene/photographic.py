"""Photographic grounds: pictures without any thing that have the look and the statistics of blurred or sharp photos.

Place: noise, leaves, materials -> photographic -> grounds. A family says what is seen; the seed decides everything
else: colours, light, focus. Pictures are made at twice their size and averaged, so nothing is jagged and the camera can
move by half pixels.
Shapes: a field is (2H, 2W, 3) float32 0..255, with a margin where the camera pans; a photograph (F, H, W, 3) uint8.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ...random_streams import random_stream
from .canvas import Canvas
from .leaves import TILES, leaves_tile
from .materials import Sheet, material
from .noise import blur, straight, tile, window
from .tints import any_hue, palette, ramp, ramp_colors, tint

if TYPE_CHECKING:
    from .grounds import Photographic

Rng = np.random.Generator
# Chance of a family's ground to be out of focus, and how far: radius in units.
FOCUS: dict[str, tuple[float, float, float]] = {
    "leaves": (0.55, 0.5, 4.0),
    "pebbles": (0.45, 0.5, 3.0),
    "blocks": (0.5, 0.5, 3.0),
    "clutter": (0.15, 0.3, 1.0),
    "clouds": (0.0, 0.0, 0.0),
    "surface": (0.2, 0.3, 1.0),
    "landscape": (0.4, 0.3, 1.8),
    "room": (0.4, 0.3, 1.5),
    "studio": (0.0, 0.0, 0.0),
}
FAMILIES: tuple[str, ...] = tuple(FOCUS)


def _pieces(kind: str, rng: Rng, sheet: Sheet, behind: np.ndarray | None = None) -> np.ndarray:
    """Dead leaves: pieces of a few hues, each with its own grain; a part of them in front of `behind`, where given."""
    leaves = leaves_tile(kind, int(rng.integers(TILES[kind])))
    place = int(rng.integers(1 << 30))  # both fields through the same window
    piece = window(leaves.piece_NN, sheet.height, sheet.width, random_stream(place))
    light = window(leaves.light_NN, sheet.height, sheet.width, random_stream(place))
    hues = tuple(any_hue(rng) for _ in range(int(rng.integers(2, 5))))
    grain = rng.uniform(0.0, 0.2, 256).astype(np.float32)[piece]
    rough = window(tile(int(rng.integers(3)), 0.95), sheet.height, sheet.width, rng)
    picture = palette(rng, hues, sheet.vivid)[piece] * (light * (1.0 + grain * rough))[..., None]
    if behind is None:
        return picture
    share = float(rng.uniform(0.1, 0.5))
    return np.where(
        (rng.uniform(size=256) < share)[piece][..., None], picture, behind * np.minimum(light, 1.0)[..., None]
    )


def _clutter(rng: Rng, sheet: Sheet) -> np.ndarray:
    """Pieces in focus in front of something that hardly is."""
    makers = (_clouds, _surface, _landscape, _room)
    behind = makers[int(rng.integers(len(makers)))](rng, sheet)
    kind = tuple(TILES)[int(rng.integers(len(TILES)))]
    return _pieces(kind, rng, sheet, blur(behind, round(float(rng.uniform(0.0, 1.5)) * sheet.unit)))


def _clouds(rng: Rng, sheet: Sheet) -> np.ndarray:
    """Fog, sky, smoke: 1/f noise through a ramp of tints from dark to light."""
    field = window(tile(int(rng.integers(4)), (0.5, 0.65, 0.8)[int(rng.integers(3))]), sheet.height, sheet.width, rng)
    hues = [any_hue(rng) for _ in range(2)]
    dark, light = sorted(rng.uniform(0.2, 0.9, 2))
    middle = 0.5 * (dark + light)
    stops = [
        tint(rng, hue, (value, value), sheet.vivid)
        for hue, value in zip((*hues, hues[0]), (dark, middle, light), strict=True)
    ]
    return ramp_colors(ramp(stops), field * float(rng.uniform(0.5, 1.0)))


def _surface(rng: Rng, sheet: Sheet) -> np.ndarray:
    return material(rng, sheet)


def _lying(rng: Rng, sheet: Sheet, first: int, names: tuple[str, ...]) -> np.ndarray:
    """A material on the ground, seen in perspective from row `first` down: denser towards the horizon."""
    height = sheet.height - first
    flat = material(rng, Sheet(2 * height, sheet.width, sheet.unit, sheet.vivid), names)
    share = np.arange(height, dtype=np.float64) / height
    rows = (share * (0.35 + 0.65 * share) * (2 * height - 1)).astype(np.int64)
    depth = 2.0 / (1.0 + share)  # columns move together with distance
    middle = sheet.width / 2.0
    columns = np.clip(middle + (np.arange(sheet.width)[None, :] - middle) * depth[:, None], -1e6, 1e6).astype(np.int64)
    return flat[rows[:, None], columns % sheet.width]


def _sky(rng: Rng, sheet: Sheet) -> np.ndarray:
    hue = ("sky", "sky", "stone", "dusk", "straw")[int(rng.integers(5))]
    top, bottom = (
        tint(rng, hue, (0.45, 0.85), sheet.vivid),
        tint(rng, ("stone", "straw", hue)[int(rng.integers(3))], (0.75, 0.95)),
    )
    share = (sheet.rows / sheet.height)[..., None]
    sky = np.broadcast_to(top + (bottom - top) * share, (sheet.height, sheet.width, 3))
    cloud = straight(tile(int(rng.integers(3)), 0.65, 2), sheet.height, sheet.width, rng)
    cover = np.clip(cloud * float(rng.uniform(0.0, 1.6)) - float(rng.uniform(-0.2, 0.5)), 0.0, 0.9)[..., None]
    return sky + (tint(rng, "stone", (0.8, 0.97)) - sky) * cover


def _landscape(rng: Rng, sheet: Sheet) -> np.ndarray:
    """Sky, one to three ridges of hills or trees in the haze, and the ground in front."""
    picture = _sky(rng, sheet).astype(np.float32)
    haze = picture[sheet.height // 3, sheet.width // 2].copy()
    horizon = float(rng.uniform(0.3, 0.6)) * sheet.height
    count = int(rng.integers(1, 4))
    hue = ("foliage", "foliage", "sky", "stone", "earth")[int(rng.integers(5))]
    near = tint(rng, hue, (0.18, 0.45), sheet.vivid)
    for number in range(count):
        share = (number + 1.0) / count
        outline = straight(tile(number, (0.5, 0.7, 0.9)[int(rng.integers(3))]), 1, sheet.width, rng)[0]
        level = horizon - (1.0 - share) * 7.0 * sheet.unit - (3.0 + 3.0 * outline) * sheet.unit
        inside = np.clip(sheet.rows - level[None, :], 0.0, 1.0)[..., None]
        rough = window(tile(1, 0.95), sheet.height, sheet.width, rng) * (26.0 * share)
        color = haze + (near - haze) * (0.35 + 0.6 * share) + rough[..., None]
        picture += (color - picture) * inside
    first = int(horizon)
    lying = _lying(rng, sheet, first, ("grass", "grass", "sand", "water", "stone"))
    picture[first:] += (lying - picture[first:]) * np.clip(0.15 * (sheet.rows[first:] - first), 0.0, 1.0)[..., None]
    return picture


def _room(rng: Rng, sheet: Sheet) -> np.ndarray:
    """A wall, or furniture far out of focus, and in front of it a table or a floor."""
    if rng.random() < 0.4:
        wall = blur(_pieces("blocks", rng, sheet), round(float(rng.uniform(2.0, 5.0)) * sheet.unit / 2.0))
    else:
        wall = material(rng, sheet, ("plaster", "plaster", "plaster", "bricks", "tiles", "planks", "cloth"))
    first = int(float(rng.uniform(0.5, 0.85)) * sheet.height)
    table = _lying(rng, sheet, first, ("wood", "wood", "cloth", "marble", "stone", "plaster", "tiles", "planks"))
    picture = wall.astype(np.float32)
    below = np.clip((first - sheet.rows) / (3.0 * sheet.unit), 0.0, 1.0)
    picture *= (0.75 + 0.25 * below)[..., None]  # dark where wall and table meet
    picture[first:] = table * (1.0 + 0.1 * (sheet.rows[first:] - first) / sheet.height)[..., None]
    return picture


def _studio(rng: Rng, sheet: Sheet) -> np.ndarray:
    """A backdrop: a soft spot of light on one tint."""
    color, edge = _backdrop(rng, sheet.vivid)
    x = sheet.columns / sheet.width - float(rng.uniform(0.2, 0.8))
    y = sheet.rows / sheet.height - float(rng.uniform(0.2, 0.8))
    share = np.clip(np.sqrt(x * x + y * y) * float(rng.uniform(0.9, 1.6)), 0.0, 1.0)
    return color + (edge - color) * (share * share * (3.0 - 2.0 * share))[..., None]


def _backdrop(rng: Rng, vivid: bool) -> tuple[np.ndarray, np.ndarray]:
    color = tint(rng, any_hue(rng), (0.4, 0.95), vivid)
    return color, color * float(rng.uniform(0.3, 0.9))


MAKERS: dict[str, Callable[[Rng, Sheet], np.ndarray]] = {
    "leaves": lambda rng, sheet: _pieces("leaves", rng, sheet),
    "pebbles": lambda rng, sheet: _pieces("pebbles", rng, sheet),
    "blocks": lambda rng, sheet: _pieces("blocks", rng, sheet),
    "clutter": _clutter,
    "clouds": _clouds,
    "surface": _surface,
    "landscape": _landscape,
    "room": _room,
    "studio": _studio,
}


def _expose(rng: Rng, field: np.ndarray, sheet: Sheet) -> np.ndarray:
    """Light that falls off to one side and to the corners, and the exposure of the camera."""
    x, y = sheet.columns / sheet.width - 0.5, sheet.rows / sheet.height - 0.5
    slope_x, slope_y = float(rng.uniform(-0.4, 0.4)), float(rng.uniform(-0.4, 0.2))
    light = 1.0 + slope_x * x + slope_y * y - float(rng.uniform(0.0, 0.5)) * (x * x + y * y)
    contrast = float(rng.uniform(0.9, 1.5))
    middle = 60.0 + 60.0 * float(rng.uniform())
    return ((field - middle) * contrast + middle) * (light * float(rng.uniform(0.85, 1.15)))[..., None]


@lru_cache(maxsize=8)
def photograph(ground: Photographic, canvas: Canvas, times: tuple[float, ...]) -> np.ndarray:
    """The ground at those times: (F, H, W, 3) uint8, read-only; F = 1 where the camera stands still."""
    family, pan, vivid = ground.family, ground.pan, ground.vivid
    rng = random_stream(73, FAMILIES.index(family), ground.seed, vivid)
    steps = [(round(2.0 * canvas.unit * pan[0] * time), round(2.0 * canvas.unit * pan[1] * time)) for time in times]
    steps = steps[:1] if len(set(steps)) == 1 else steps
    left, top = min(step[0] for step in steps), min(step[1] for step in steps)
    width = 2 * canvas.width + max(step[0] for step in steps) - left
    height = 2 * canvas.height + max(step[1] for step in steps) - top
    sheet = Sheet(height, width, 2.0 * canvas.unit, vivid)
    field = MAKERS[family](rng, sheet)
    if len(steps) == 1:  # averaging first is nearly the same, and cheaper
        rows = field[0::2] + field[1::2]
        field = 0.25 * (rows[:, 0::2] + rows[:, 1::2])
        sheet = Sheet(canvas.height, canvas.width, canvas.unit, vivid)
    field = _expose(rng, field, sheet)
    chance, least, most = FOCUS[family]
    is_blurred = rng.random() < (0.6 * chance if vivid else chance)
    radius = float(rng.uniform(least, most)) if is_blurred else 0.0
    field = np.clip(blur(field, round(radius * sheet.unit)), 0.0, 255.0)
    if len(steps) == 1:
        frame = np.rint(field).astype(np.uint8)[None]
        frame.setflags(write=False)
        return frame
    fixed = np.rint(field * 16.0).astype(np.int32)
    fixed = fixed[:-1, :-1] + fixed[1:, :-1] + fixed[:-1, 1:] + fixed[1:, 1:]  # every 2x2, at half pixels
    frames = np.empty((len(steps), *canvas.size, 3), dtype=np.uint8)
    for frame, (x, y) in zip(frames, steps, strict=True):
        rows, columns = slice(y - top, None, 2), slice(x - left, None, 2)
        frame[:] = (fixed[rows, columns][: canvas.height, : canvas.width] + 32) // 64
    frames.setflags(write=False)
    return frames
