"""Grounds: what lies behind the things. Named ones, photographic ones by family and seed, and any array.

Place: palette, photographic -> grounds -> render. A named ground is one fixed image a canvas, so a background edit has
one ground truth; a photographic ground has no name and is a function of (family, seed, canvas); a Picture is the
caller's own array, e.g. a real photo in evaluation. Only photographic grounds may pan (the camera moves).
Shapes: ground_FHWC uint8, read-only, F = 1 where nothing moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...errors import InputError
from .canvas import Canvas
from .palette import GROUNDS, PLAIN_GROUNDS, TONES

PERIOD = 16  # units, of stripes, checkerboard and dots: low enough for a VAE of stride 8


@dataclass(frozen=True, slots=True)
class Photographic:
    """A ground like a photograph; pan is how far the camera moves during a clip, in units (x, y)."""

    family: str  # one of photographic.FAMILIES
    seed: int
    pan: tuple[float, float] = (0.0, 0.0)
    vivid: bool = False  # strong colours too, as real photos have them


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """Any picture as ground: (H, W, 3) uint8, or (F, H, W, 3) for a clip, of just the canvas' size."""

    pixels: np.ndarray

    def __post_init__(self) -> None:
        pixels = self.pixels
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim not in (3, 4):
            raise InputError("a picture as ground must be a uint8 array (H, W, 3), or (F, H, W, 3) for a clip")
        if pixels.shape[-1] != 3:
            raise InputError(f"a picture as ground must have 3 channels, this one has {pixels.shape[-1]}")


Ground = str | Photographic | Picture


def is_named(ground: Ground) -> bool:
    """Whether a word names the ground."""
    return isinstance(ground, str)


def _texture_weight(texture: str, canvas: Canvas) -> np.ndarray:
    """Share of the light tone, (H, W) in [0, 1]."""
    y, x = np.mgrid[0 : canvas.height, 0 : canvas.width].astype(np.float32)
    unit = canvas.unit
    period = round(PERIOD * unit)  # even: the unit is a multiple of 1/4
    half = period // 2
    if texture == "stripes":
        return (x // half) % 2
    if texture == "checkerboard":
        return (x // half + y // half) % 2
    if texture == "dots":
        center_x, center_y = x % period - half + 0.5, y % period - half + 0.5
        distance = np.sqrt(center_x * center_x + center_y * center_y)
        return np.clip(4.0 * unit + 0.5 - distance, 0.0, 1.0)
    return y / (canvas.height - 1)  # gradient: dark above, light below


@lru_cache(maxsize=256)
def ground_image(name: str, canvas: Canvas | None = None) -> np.ndarray:
    """The named ground: (H, W, 3) uint8, read-only, the same at every call; 64x64 without a canvas.

    Raises InputError for a name that is not in GROUNDS.
    """
    if name not in GROUNDS:
        raise InputError(f"ground {name!r} is unknown; use one of {', '.join(GROUNDS)}")
    canvas = Canvas() if canvas is None else canvas
    kind, word = name.split(" ")
    if kind == "plain":
        image = np.broadcast_to(np.array(PLAIN_GROUNDS[word], dtype=np.uint8), (*canvas.size, 3)).copy()
    else:
        dark, light = (np.array(rgb, dtype=np.float32) for rgb in TONES[kind])
        weight = _texture_weight(word, canvas)[..., None]
        image = np.rint(dark + (light - dark) * weight).astype(np.uint8)
    image.setflags(write=False)
    return image


@lru_cache(maxsize=64)
def ground_colors(name: str) -> np.ndarray:
    """Every colour that occurs in a named ground: (N, 3) uint8."""
    return np.unique(ground_image(name).reshape(-1, 3), axis=0)


def ground_frames(ground: Ground, canvas: Canvas, times_F: np.ndarray) -> np.ndarray:
    """The ground at times (F,): (F, H, W, 3) uint8, read-only; F = 1 where it is the same in every frame.

    Raises InputError for a picture of another size or number of frames.
    """
    if isinstance(ground, str):
        return ground_image(ground, canvas)[None]
    if isinstance(ground, Photographic):
        from .photographic import photograph

        return photograph(ground, canvas, tuple(times_F.tolist()))
    pixels_FHWC = ground.pixels if ground.pixels.ndim == 4 else ground.pixels[None]
    if pixels_FHWC.shape[1:3] != canvas.size or len(pixels_FHWC) not in (1, len(times_F)):
        raise InputError(
            f"the picture is {pixels_FHWC.shape[:3]} (F, H, W), the scene {(len(times_F), *canvas.size)}; "
            "cut and resize the picture first"
        )
    return pixels_FHWC
