"""Colours, shape names and the names of grounds of the procedural world, and which combinations training never sees.

Place: palette -> grounds, scene -> render -> edits -> success. Every named ground is a fixed image (grounds.py), so
that a background edit has exactly one ground truth. The held-out combinations are what the compositional part of the
benchmark asks for (split "test"); design: docs of the shapes world, task list after paper section 4.
"""

from __future__ import annotations

import numpy as np

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

GROUNDS: tuple[str, ...] = tuple(f"plain {name}" for name in PLAIN_GROUNDS) + tuple(
    f"{tone} {texture}" for texture in TEXTURES for tone in TONES
)
MIN_CONTRAST = 0.15  # mean |difference| over RGB, in [0, 1], between an object and any pixel of any ground


def color_distance(a: object, b: object) -> np.ndarray:
    """Mean |difference| over the last axis (RGB, 0..255) in [0, 1] units."""
    difference = np.abs(np.asarray(a, dtype=np.float32) - np.asarray(b, dtype=np.float32))
    return difference.mean(axis=-1) / 255.0
