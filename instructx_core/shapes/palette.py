"""Colours, grounds and shape names of the procedural world, and which combinations training never sees.

Place: palette -> scene -> render -> edits -> success. Every ground is a fixed image known by its name, so that a
background edit has exactly one ground truth. The held-out combinations are what the compositional part of the
benchmark asks for (split "test"); design: docs of the shapes world, task list after paper section 4.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from ..errors import InputError

SIZE = 64  # pixels, height and width
PLACES = ("top left", "top right", "bottom left", "bottom right")
PLACE_CENTERS = ((16, 16), (48, 16), (16, 48), (48, 48))  # x, y in pixels; a pixel's centre is its index

SHAPES = ("circle", "square", "triangle", "diamond", "star", "cross", "ring", "heart")

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (228, 26, 28),
    "green": (20, 165, 40),
    "blue": (35, 70, 235),
    "yellow": (252, 222, 20),
    "purple": (140, 35, 195),
    "orange": (250, 115, 15),
    "cyan": (15, 210, 225),
    "pink": (252, 105, 185),
}

# Each colour and each shape at most once: both words of a held-out pair are well trained, only their pairing is new.
HELD_OUT: frozenset[tuple[str, str]] = frozenset(
    {
        ("red", "star"),
        ("blue", "ring"),
        ("green", "heart"),
        ("yellow", "triangle"),
        ("purple", "cross"),
        ("orange", "square"),
    }
)
COMBINATIONS: tuple[tuple[str, str], ...] = tuple((color, shape) for color in COLORS for shape in SHAPES)

PLAIN_GROUNDS: dict[str, tuple[int, int, int]] = {
    "black": (12, 12, 12),
    "white": (244, 244, 244),
    "gray": (128, 128, 128),
    "beige": (214, 200, 170),
    "navy": (22, 28, 75),
    "olive": (92, 92, 48),
    "brown": (100, 66, 44),
    "slate": (78, 92, 104),
}
TONES: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {  # dark, light
    "gray": ((84, 84, 84), (140, 140, 140)),
    "green": ((62, 84, 66), (118, 142, 116)),
    "blue": ((58, 72, 102), (112, 128, 160)),
    "brown": ((84, 62, 48), (148, 122, 98)),
    "rose": ((104, 72, 78), (168, 138, 142)),
}
TEXTURES = ("stripes", "checkerboard", "dots", "gradient")
PERIOD = 16  # pixels, of stripes, checkerboard and dots: low enough for a VAE of stride 8

GROUNDS: tuple[str, ...] = tuple(f"plain {name}" for name in PLAIN_GROUNDS) + tuple(
    f"{tone} {texture}" for texture in TEXTURES for tone in TONES
)
MIN_CONTRAST = 0.15  # mean |difference| over RGB, in [0, 1], between an object and any pixel of any ground


def color_distance(a: object, b: object) -> np.ndarray:
    """Mean |difference| over the last axis (RGB, 0..255) in [0, 1] units."""
    difference = np.abs(np.asarray(a, dtype=np.float32) - np.asarray(b, dtype=np.float32))
    return difference.mean(axis=-1) / 255.0


def _texture_weight(texture: str) -> np.ndarray:
    """Share of the light tone, (H, W) in [0, 1]."""
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    half = PERIOD // 2
    if texture == "stripes":
        return (x // half) % 2
    if texture == "checkerboard":
        return (x // half + y // half) % 2
    if texture == "dots":
        center_x, center_y = x % PERIOD - half + 0.5, y % PERIOD - half + 0.5
        return np.clip(4.5 - np.sqrt(center_x * center_x + center_y * center_y), 0.0, 1.0)
    return y / (SIZE - 1)  # gradient: dark above, light below


@cache
def ground_image(name: str) -> np.ndarray:
    """The ground of that name: (H, W, 3) uint8, read-only, the same at every call.

    Raises InputError for a name that is not in GROUNDS.
    """
    if name not in GROUNDS:
        raise InputError(f"ground {name!r} is unknown; use one of {', '.join(GROUNDS)}")
    kind, word = name.split(" ")
    if kind == "plain":
        image = np.broadcast_to(np.array(PLAIN_GROUNDS[word], dtype=np.uint8), (SIZE, SIZE, 3)).copy()
    else:
        dark, light = (np.array(rgb, dtype=np.float32) for rgb in TONES[kind])
        weight = _texture_weight(word)[..., None]
        image = np.rint(dark + (light - dark) * weight).astype(np.uint8)
    image.setflags(write=False)
    return image


@cache
def ground_colors(name: str) -> np.ndarray:
    """Every colour that occurs in a ground: (N, 3) uint8."""
    return np.unique(ground_image(name).reshape(-1, 3), axis=0)


def ground_phrase(name: str) -> str:
    """The ground as it stands in a sentence, e.g. "plain navy", "green stripes", "a gray gradient"."""
    return f"a {name}" if name.endswith(("checkerboard", "gradient")) else name
