"""Clips and masks of a candidate as files, read once a process: stages that follow each other share what is decoded.

Place: beside candidate.py, for every stage. Masks are lossless grey clips, white where they hold.
Shapes: frames_FHWC uint8 RGB; mask_FHW bool.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...media.encode import ClipFormat, write_frames
from ...media.files import read_media

CLIP, ERASED, SWAPPED, RECOLOURED = "clip.mp4", "erased.mp4", "swapped.mp4", "recoloured.mp4"
MASK, CHANGED = "mask.mp4", "changed.mp4"
QUALITY = 12  # CRF of what may become a source or a target


@lru_cache(maxsize=6)
def _read(path: Path, written: int) -> np.ndarray:
    frames_FHWC = read_media(path).frames_FHWC
    frames_FHWC.flags.writeable = False
    return frames_FHWC


def read_clip(folder: Path, name: str = CLIP) -> np.ndarray:
    """Frames of a clip of the candidate, (F, H, W, 3) uint8, read-only."""
    path = folder / name
    return _read(path, path.stat().st_mtime_ns)


def write_clip(folder: Path, name: str, frames_FHWC: np.ndarray, fps: float) -> None:
    """Whole or not at all."""
    height, width = frames_FHWC.shape[1:3]
    form = ClipFormat((height, width), Fraction(fps).limit_denominator(1001), crf=QUALITY, preset="fast")
    write_frames(folder / name, frames_FHWC, len(frames_FHWC), form)


def read_mask(folder: Path, name: str = MASK) -> np.ndarray:
    """(F, H, W) bool."""
    return read_clip(folder, name)[..., 1] > 127


def write_mask(folder: Path, name: str, mask_FHW: np.ndarray, fps: float) -> None:
    """Lossless, so that it is read back as it was."""
    height, width = mask_FHW.shape[1:]
    form = ClipFormat((height, width), Fraction(fps).limit_denominator(1001), crf=0, preset="ultrafast")
    write_frames(folder / name, _gray(mask_FHW), len(mask_FHW), form)


def _gray(mask_FHW: np.ndarray) -> Iterator[np.ndarray]:
    for mask_HW in mask_FHW:
        yield np.repeat(mask_HW[..., None], 3, axis=-1).astype(np.uint8) * np.uint8(255)
