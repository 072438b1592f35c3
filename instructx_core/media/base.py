"""What a decoded image or clip is, and what every part of the media step takes for granted.

Legend: F frames, H W pixels, C = 3 (RGB, 0..255, sRGB).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}  # of clips that are written: FFmpeg's names
VIDEO_SUFFIXES = tuple(CONTAINERS)
ALPHA_SUFFIXES = (".png", ".webp", ".tif", ".tiff")

HDR_TRANSFER = {16: "PQ", 18: "HLG"}  # transfer curves of ITU-T H.273

Transform = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class SoundSetup:
    """What the samples of a sound mean. rate: Hz. layout, channels: FFmpeg's names of the layout and of its channels,
    in their order. sample: of the kind of number."""

    rate: int
    layout: str
    channels: tuple[str, ...]
    sample: str

    def __str__(self) -> str:
        return f"{self.rate} Hz {self.layout}"


@dataclass(frozen=True, slots=True)
class SoundTrack:
    """One sound of a file that can be heard. name: for a person. codec: FFmpeg's name of its kind.

    stream: index in the container. setups: all that it has, one almost always. damaged: packets that cannot be decoded.
    ordered: its packets have times that a file can hold. about: language and title.
    """

    stream: int
    name: str
    codec: str
    lossless: bool
    setups: tuple[SoundSetup, ...]
    ordered: bool = True
    damaged: int = 0
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AudioSource:
    """Where the sound of a clip lies; packets are read from there while the edited clip is written.

    lost: what of it cannot be had, one sentence each. tracks: none where that is all of it. planned: what sound/plan.py
    found for an output's suffix, which it tries out once.
    """

    path: Path
    video_start: float  # seconds; audio timestamps count from here
    tracks: tuple[SoundTrack, ...]
    lost: tuple[str, ...] = ()
    planned: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


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
