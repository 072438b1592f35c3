"""Media in and out: a file of any common format <-> sRGB uint8 frames, with what must survive an edit (fps, audio).

First and last step of the data flow: media -> instruction -> ... -> pipeline -> media. Images go through Pillow in
images.py, clips through PyAV in video.py and encode.py. Every conversion that changes pixels (rotation, alpha, 16 bit,
CMYK, profile, frame rate) is either done and written into `Media.notes`, or refused with a reason; nothing happens
silently.
Legend: F frames, H W pixels, C = 3 (RGB, 0..255, sRGB).
"""

from __future__ import annotations

import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import InputError
from .base import Media, Transform, check_frames
from .images import decode_image, refuse_heif, write_image

__all__ = ["read_image", "read_media", "write_image", "write_video"]


def read_media(
    path: str | Path,
    transform: Transform | None = None,
    max_frames: int | None = None,
    first_only: bool = False,
    partial: bool = False,
) -> Media:
    """Decode an image or a clip; what the file is decides, not its name.

    transform: applied to each upright HWC uint8 frame while decoding (crop, scale), so that a long clip never lies in
    memory at full size. max_frames: a longer clip raises instead of filling the memory. first_only: stop after the
    first frame of a clip, to look at a file cheaply. partial: of a clip that is damaged or cut off, take what can be
    read instead of raising.
    Raises InputError: missing, unreadable, corrupt or empty file, HDR, animation, unknown pixel format.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file; check the path")
    if not path.is_file():
        raise InputError(f"{path}: not a file; give one image or video file")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty (0 bytes); give an image or video file")
    refuse_heif(path)
    try:
        with warnings.catch_warnings():
            # A large photo is fine; Pillow's hard limit (twice the warning's) still raises.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(path)
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: {error}; scale the image down first") from None
    except UnidentifiedImageError:
        from .video import read_video

        return read_video(path, transform, max_frames, first_only, partial)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error}); save it again as PNG or JPEG") from None
    with opened:
        return decode_image(path, opened, transform)


def read_image(path: str | Path) -> np.ndarray:
    """One upright HWC uint8 sRGB picture, e.g. a reference. Raises InputError as read_media, and for a clip."""
    media = read_media(path, first_only=True)
    if media.is_video:
        raise InputError(f"{path}: this is a video; give an image here")
    return media.frames_FHWC[0]


def write_video(path: str | Path, frames_FHWC: np.ndarray, fps: Fraction | float, **options: Any) -> tuple[str, ...]:
    """Write a clip held in memory, uint8 (F, H, W, 3). Options, errors and what is returned: encode.write_frames."""
    from .encode import write_frames

    check_frames(frames_FHWC)
    return write_frames(path, frames_FHWC, len(frames_FHWC), frames_FHWC.shape[1:3], fps, **options)
