"""Colours as photographs have them: a few hues a picture, mostly muted, light and dark ones far apart.

Place: tints -> materials, photographic. Muted tints stay clear of the vivid colours that name things; vivid ones are
for natural pictures without things.
Shapes: a tint is (3,) float32 0..255; a palette (N, 3).
"""

from __future__ import annotations

import colorsys

import numpy as np

HUES: dict[str, tuple[float, float]] = {  # turns
    "earth": (0.05, 0.11),
    "brick": (0.98, 1.05),
    "straw": (0.10, 0.16),
    "foliage": (0.17, 0.36),
    "sea": (0.42, 0.54),
    "sky": (0.55, 0.64),
    "dusk": (0.70, 0.93),
}
MOST_MUTED = {"earth": 0.5, "brick": 0.42, "straw": 0.45, "foliage": 0.42, "sea": 0.34, "sky": 0.4, "dusk": 0.28}
LEVELS = 256  # of a ramp


def tint(rng: np.random.Generator, hue: str, value: tuple[float, float], vivid: bool = False) -> np.ndarray:
    """A tint of that hue ("stone" for nearly gray) and value (lightness of its brightest channel, 0..1)."""
    light = float(rng.uniform(*value))
    if hue == "stone":
        turn, saturation = float(rng.uniform()), float(rng.uniform(0.0, 0.12))
    else:
        turn = float(rng.uniform(*HUES[hue])) % 1.0
        most = 0.92 if vivid else MOST_MUTED[hue]
        saturation = float(rng.uniform(0.35 * most, most))
    return np.array([255.0 * channel for channel in colorsys.hsv_to_rgb(turn, saturation, light)], dtype=np.float32)


def any_hue(rng: np.random.Generator) -> str:
    """A name of a hue, the earthy ones more often, as outdoors."""
    names = ("earth", "earth", "straw", "stone", "stone", "brick", "foliage", "foliage", "sky", "sea", "dusk")
    return names[int(rng.integers(len(names)))]


def palette(rng: np.random.Generator, hues: tuple[str, ...], vivid: bool = False) -> np.ndarray:
    """(256, 3): each of the hues in many lights, some nearly black or white."""
    anchors = np.stack([tint(rng, hue, (0.3, 0.85), vivid) for hue in hues])
    colors = anchors[rng.integers(len(anchors), size=LEVELS)]
    light = rng.uniform(0.5, 1.4, (LEVELS, 1)).astype(np.float32)
    colors = colors * light + rng.uniform(-9.0, 9.0, (LEVELS, 3)).astype(np.float32)
    extreme = rng.uniform(size=(LEVELS, 1)) < 0.06
    colors = np.where(extreme, np.where(light > 0.95, 235.0, 22.0), colors)
    return np.clip(colors, 4.0, 250.0).astype(np.float32)


def ramp(tints: list[np.ndarray]) -> np.ndarray:
    """(256, 3): the tints in turn, with straight lines between them."""
    position = np.arange(LEVELS, dtype=np.float32) * ((len(tints) - 1) / (LEVELS - 1))
    first = np.minimum(position.astype(np.int64), len(tints) - 2)
    share = (position - first)[:, None].astype(np.float32)
    stops = np.stack(tints)
    return stops[first] * (1.0 - share) + stops[first + 1] * share


def ramp_colors(colors: np.ndarray, field: np.ndarray) -> np.ndarray:
    """A field about [-1, 1] as colours of a ramp: (H, W, 3) float32."""
    level = np.clip(np.rint((field + 1.0) * ((LEVELS - 1) / 2.0)), 0, LEVELS - 1).astype(np.uint8)
    return colors[level]
