"""Surfaces as photographs show them: stone, wood, planks, bricks, tiles, cloth, grass, fur, sand, water, plaster.

Place: noise, tints -> materials -> photographic. Drawn at twice the resolution of the picture, which averages 2x2.
Shapes: a material is (H, W, 3) float32 0..255.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .noise import SIDE, straight, tile, window
from .tints import any_hue, ramp, ramp_colors, tint


@dataclass(frozen=True, slots=True)
class Sheet:
    """What is to be covered: its pixels, the pixels of a unit, and whether vivid colours are allowed."""

    height: int
    width: int
    unit: float
    vivid: bool = False

    @property
    def rows(self) -> np.ndarray:
        return np.arange(self.height, dtype=np.float32)[:, None]

    @property
    def columns(self) -> np.ndarray:
        return np.arange(self.width, dtype=np.float32)[None, :]


Rng = np.random.Generator


def _pair(rng: Rng, hue: str, vivid: bool, low: float = 0.25, high: float = 0.85) -> list[np.ndarray]:
    """A dark and a light tint of one hue."""
    middle = float(rng.uniform(low + 0.12, high - 0.12))
    apart = float(rng.uniform(0.06, 0.2))
    return [
        tint(rng, hue, (middle - apart, middle - apart), vivid),
        tint(rng, hue, (middle + apart, middle + apart), vivid),
    ]


def stone(rng: Rng, sheet: Sheet) -> np.ndarray:
    """Granite to concrete: rough noise between two or three tints."""
    hue = ("stone", "stone", "earth", "sky")[int(rng.integers(4))]
    field = window(tile(int(rng.integers(3)), 0.9), sheet.height, sheet.width, rng)
    return ramp_colors(ramp(_pair(rng, hue, sheet.vivid)), field * float(rng.uniform(0.4, 1.0)))


def marble(rng: Rng, sheet: Sheet) -> np.ndarray:
    """Pale with thin veins, where smooth noise crosses zero."""
    hue = ("stone", "straw", "sea", "brick")[int(rng.integers(4))]
    smooth = window(tile(int(rng.integers(3)), 0.55), sheet.height, sheet.width, rng)
    cloud = window(tile(3, 0.8), sheet.height, sheet.width, rng)
    vein = 1.0 - np.minimum(np.abs(smooth) * 7.0, 1.0)
    return ramp_colors(ramp(_pair(rng, hue, sheet.vivid, 0.45, 0.98)), 0.4 + 0.4 * cloud - 1.1 * vein * vein)


def wood(rng: Rng, sheet: Sheet) -> np.ndarray:
    """Long fibres."""
    hue = ("earth", "earth", "straw", "stone", "brick")[int(rng.integers(5))]
    upright = bool(rng.random() < 0.4)
    fibre = straight(tile(int(rng.integers(3)), 0.85, 16), sheet.height, sheet.width, rng, upright)
    wave = straight(tile(3, 0.6, 4), sheet.height, sheet.width, rng, upright)
    return ramp_colors(ramp(_pair(rng, hue, sheet.vivid)), 0.55 * fibre + 0.45 * wave)


def planks(rng: Rng, sheet: Sheet) -> np.ndarray:
    """Boards beside each other, each in its own tone."""
    board = wood(rng, sheet)
    upright = bool(rng.random() < 0.5)
    across = sheet.columns if upright else sheet.rows
    breadth = float(rng.uniform(7.0, 16.0)) * sheet.unit
    position = across / breadth + float(rng.uniform())
    number = np.floor(position)
    tones = rng.uniform(0.82, 1.15, 64).astype(np.float32)
    seam = np.minimum(position - number, number + 1.0 - position) * (breadth / sheet.unit)
    return board * (tones[number.astype(np.int64) % 64] * np.clip(0.55 + seam, 0.55, 1.0))[..., None]


def bricks(rng: Rng, sheet: Sheet) -> np.ndarray:
    """Courses of bricks in mortar."""
    height = float(rng.uniform(5.0, 11.0)) * sheet.unit
    breadth = height * float(rng.uniform(1.8, 3.0))
    row = sheet.rows / height + float(rng.uniform())
    course = np.floor(row)
    column = sheet.columns / breadth + 0.5 * (course % 2.0)
    number = np.floor(column)
    hue = ("brick", "brick", "earth", "stone")[int(rng.integers(4))]
    tones = ramp(_pair(rng, hue, sheet.vivid))[rng.integers(256, size=97)]
    brick = tones[(course * 31.0 + number * 17.0).astype(np.int64) % 97]
    rough = window(tile(int(rng.integers(3)), 1.0), sheet.height, sheet.width, rng)
    edge = np.minimum(
        np.minimum(row - course, course + 1.0 - row) * height,
        np.minimum(column - number, number + 1.0 - column) * breadth,
    )
    inside = np.clip(edge / (0.45 * sheet.unit) - 0.6, 0.0, 1.0)[..., None]
    mortar = tint(rng, "stone", (0.45, 0.8))
    return mortar + (brick - mortar) * inside + (18.0 * rough)[..., None]


def tiles(rng: Rng, sheet: Sheet) -> np.ndarray:
    """Square tiles with light seams; now and then in two tints."""
    side = float(rng.uniform(9.0, 20.0)) * sheet.unit
    row, column = sheet.rows / side + float(rng.uniform()), sheet.columns / side + float(rng.uniform())
    down, right = np.floor(row), np.floor(column)
    first, second = _pair(rng, any_hue(rng), sheet.vivid, 0.35, 0.95)
    share = ((down + right) % 2.0) * float(rng.uniform(0.0, 1.0) if rng.random() < 0.4 else 0.1)
    edge = np.minimum(np.minimum(row - down, down + 1.0 - row), np.minimum(column - right, right + 1.0 - column)) * side
    seam = np.clip(edge / (0.4 * sheet.unit) - 0.5, 0.0, 1.0)
    sheen = 10.0 * window(tile(0, 0.7), sheet.height, sheet.width, rng) + 14.0 * (row - down - 0.5)
    return (first + (second - first) * share[..., None]) * (0.8 + 0.2 * seam)[..., None] + sheen[..., None]


def _wave(position: np.ndarray) -> np.ndarray:
    """A triangle wave of period 1 in [-1, 1]."""
    return 4.0 * np.abs(position - np.floor(position) - 0.5) - 1.0


def cloth(rng: Rng, sheet: Sheet) -> np.ndarray:
    """A weave, plain, striped or checked, with soft folds."""
    base, other = tint(rng, any_hue(rng), (0.3, 0.85), sheet.vivid), tint(rng, any_hue(rng), (0.3, 0.85), sheet.vivid)
    thread = float(rng.uniform(1.2, 2.6)) * sheet.unit
    weave = _wave(sheet.columns / thread) * _wave(sheet.rows / thread)
    repeat = float(rng.uniform(6.0, 18.0)) * sheet.unit
    stripes = np.clip(3.0 * _wave(sheet.columns / repeat), -1.0, 1.0) * 0.5 + 0.5
    bands = np.clip(3.0 * _wave(sheet.rows / repeat), -1.0, 1.0) * 0.5 + 0.5
    kind = int(rng.integers(4))
    share = (0.0 * stripes, stripes, 0.5 * (stripes + bands), 0.35 * bands)[kind]
    share = np.broadcast_to(share, (sheet.height, sheet.width))
    folds = window(tile(1, 0.5), sheet.height, sheet.width, rng)
    color = base + (other - base) * share[..., None]
    return color * (1.0 + 0.1 * weave + float(rng.uniform(0.0, 0.22)) * folds)[..., None]


def grass(rng: Rng, sheet: Sheet) -> np.ndarray:
    """Blades: upright strokes, dark between them."""
    hue = ("foliage", "foliage", "straw")[int(rng.integers(3))]
    dark, light = tint(rng, hue, (0.15, 0.3), sheet.vivid), tint(rng, hue, (0.45, 0.7), sheet.vivid)
    blades = straight(tile(int(rng.integers(3)), 1.0, 4), sheet.height, sheet.width, rng, upright=True)
    patches = window(tile(2, 0.7), sheet.height, sheet.width, rng)
    return ramp_colors(ramp([dark, light, tint(rng, "straw", (0.55, 0.8))]), 0.65 * blades + 0.35 * patches)


def fur(rng: Rng, sheet: Sheet) -> np.ndarray:
    """Hair: fine strokes that bend."""
    hue = ("earth", "stone", "straw", "brick")[int(rng.integers(4))]
    bend = window(tile(int(rng.integers(3)), 0.5), sheet.height, sheet.width, rng)
    hair = tile(int(rng.integers(2)), 1.0, 8).swapaxes(0, int(rng.integers(2)))
    shift = np.rint(float(rng.uniform(4.0, 16.0)) * sheet.unit * bend).astype(np.int64)
    rows = (np.arange(sheet.height)[:, None] + shift + int(rng.integers(SIDE))) % SIDE
    columns = (np.arange(sheet.width)[None, :] + shift // 2 + int(rng.integers(SIDE))) % SIDE
    dark, light = tint(rng, hue, (0.15, 0.45), sheet.vivid), tint(rng, hue, (0.55, 0.95), sheet.vivid)
    return ramp_colors(ramp([dark, light]), 0.7 * hair[rows, columns] + 0.4 * bend)


def sand(rng: Rng, sheet: Sheet) -> np.ndarray:
    """Grains, now and then ripples."""
    grains = window(tile(int(rng.integers(3)), 1.0, 1, 64), sheet.height, sheet.width, rng)
    bent = window(tile(1, 0.5), sheet.height, sheet.width, rng)
    ripples = _wave(sheet.rows / (float(rng.uniform(5.0, 10.0)) * sheet.unit) + 1.2 * bent)
    hue = ("straw", "earth", "stone")[int(rng.integers(3))]
    depth = float(rng.uniform(0.0, 0.5))
    return ramp_colors(ramp(_pair(rng, hue, sheet.vivid, 0.4, 0.9)), 0.35 * grains + depth * ripples + 0.3 * bent)


def water(rng: Rng, sheet: Sheet) -> np.ndarray:
    """Waves: lying strokes with glints."""
    hue = ("sky", "sea", "stone")[int(rng.integers(3))]
    waves = straight(tile(int(rng.integers(3)), 0.8, 8), sheet.height, sheet.width, rng)
    glint = np.clip(waves - 0.45, 0.0, 1.0) * float(rng.uniform(0.0, 160.0))
    return ramp_colors(ramp(_pair(rng, hue, sheet.vivid, 0.2, 0.75)), waves) + glint[..., None]


def plaster(rng: Rng, sheet: Sheet) -> np.ndarray:
    """A painted wall: nearly one tint."""
    rough = window(tile(int(rng.integers(3)), 0.9), sheet.height, sheet.width, rng)
    color = tint(rng, any_hue(rng), (0.35, 0.95), sheet.vivid)
    return color + (float(rng.uniform(2.0, 14.0)) * rough)[..., None]


MATERIALS: dict[str, Callable[[Rng, Sheet], np.ndarray]] = {
    "stone": stone,
    "marble": marble,
    "wood": wood,
    "planks": planks,
    "bricks": bricks,
    "tiles": tiles,
    "cloth": cloth,
    "grass": grass,
    "fur": fur,
    "sand": sand,
    "water": water,
    "plaster": plaster,
}


def material(rng: Rng, sheet: Sheet, names: tuple[str, ...] = tuple(MATERIALS)) -> np.ndarray:
    """One of the named materials, (H, W, 3) float32."""
    return MATERIALS[names[int(rng.integers(len(names)))]](rng, sheet)
