"""What a decoded image or clip is, and what every part of the media step takes for granted.

Legend: F frames, H W pixels, C = 3 (RGB, 0..255, sRGB).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..errors import InputError
from .clip.known import CONTAINERS
from .sound.source import AudioSource

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
VIDEO_SUFFIXES = tuple(CONTAINERS)
ALPHA_SUFFIXES = (".png", ".webp", ".tif", ".tiff")

Transform = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Media:
    """A decoded image or clip.

    frames_FHWC: uint8 sRGB, upright. fps: Hz, None for an image. size: (H, W) of the file, before `transform`.
    pixel_aspect: width / height of one pixel, 1 almost always. color: what the file said, e.g. "bt709 limited".
    alpha_HW: transparency of an image that has any, 255 opaque, after `transform`; its frame shows it over white,
    colour_HWC is what lies below the white.
    notes: one sentence for every conversion that was done on the way in.
    """

    path: Path
    frames_FHWC: np.ndarray
    size: tuple[int, int]
    is_video: bool
    fps: Fraction | None = None
    audio: AudioSource | None = None
    pixel_aspect: Fraction = Fraction(1)
    color: str = "srgb"
    alpha_HW: np.ndarray | None = None
    colour_HWC: np.ndarray | None = None
    notes: tuple[str, ...] = ()


def check_pixels(frames_FHWC: np.ndarray) -> None:
    """Raises InputError unless frames are a non-empty uint8 array of shape (F, H, W, 3)."""
    if not isinstance(frames_FHWC, np.ndarray) or frames_FHWC.dtype != np.uint8:
        kind = getattr(frames_FHWC, "dtype", type(frames_FHWC).__name__)
        raise InputError(f"frames are {kind}; they must be a uint8 array: scale to 0..255 and convert")
    if frames_FHWC.ndim != 4 or frames_FHWC.shape[-1] != 3:
        raise InputError(f"frames have shape {frames_FHWC.shape}; they must be (frames, height, width, 3 = RGB)")
    if 0 in frames_FHWC.shape:
        raise InputError(f"frames have shape {frames_FHWC.shape}: there is nothing to write; give at least one frame")
