"""Media in and out: a file of any common format <-> sRGB uint8 frames, with what must survive an edit (fps, audio).

First and last step of the data flow: media -> editing -> pipeline -> ... -> media. Images go through Pillow in
images.py, clips through PyAV in stream.py and encode.py. Every conversion that changes pixels (rotation, alpha, 16 bit,
CMYK, profile, frame rate) is either done and written into `Media.notes`, or refused with a reason; nothing happens
silently.
Legend: F frames, H W pixels, C = 3 (RGB, 0..255, sRGB).
"""

from __future__ import annotations

import warnings
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import InputError
from .base import Media, Transform, check_pixels
from .foreign import refuse_after, refuse_before
from .images import OpenImage, is_animation, write_image
from .kinds import check_file, refuse_known, refuse_undrawn

if TYPE_CHECKING:
    from .animation import OpenAnimation
    from .stream import OpenClip

__all__ = ["open_media", "read_image", "read_media", "read_picture", "write_image", "write_video"]


def open_media(path: str | Path) -> OpenImage | OpenAnimation | OpenClip:
    """An image or a clip, open and not decoded yet; what the file is decides, not its name. For a `with` block.

    Raises InputError for a file that is missing, empty or neither of the two.
    """
    path = Path(path)
    check_file(path)
    refuse_before(path)
    try:
        with warnings.catch_warnings(record=True) as warned:
            # A large photo is fine; Pillow's hard limit (twice the warning's) still raises.
            warnings.simplefilter("always")
            image = Image.open(path)
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: {error}; scale the image down first") from None
    except UnidentifiedImageError:
        image = None
    except (OSError, SyntaxError, ValueError, ArithmeticError, LookupError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error}); save it again as PNG or JPEG") from None
    if image is not None:
        refuse_undrawn(path, image)
        damaged_exif = any("EXIF" in str(each.message) for each in warned)
        return _opened(path, image, ("its EXIF data are damaged and were passed over",) if damaged_exif else ())
    refuse_after(path)
    refuse_known(path)
    from .stream import OpenClip

    return OpenClip(path)


def _opened(path: Path, image: Image.Image, notes: tuple[str, ...]) -> OpenImage | OpenAnimation:
    try:
        moving = is_animation(image)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        image.close()
        raise InputError(f"{path}: the image is damaged ({error}); save it again as PNG or JPEG") from None
    if not moving:
        return OpenImage(path, image, notes)
    from .animation import OpenAnimation

    return OpenAnimation(path, image)


def read_media(
    path: str | Path, transform: Transform | None = None, max_frames: int | None = None, partial: bool = False
) -> Media:
    """Decode an image or a whole clip.

    transform: applied to each upright HWC uint8 frame (crop, scale), so that a long clip never lies in memory at full
    size. max_frames: a longer clip raises instead of filling the memory. partial: of a clip that is damaged or cut off,
    take what can be read instead of raising.
    Raises InputError: as open_media, and for a corrupt file, HDR, an animation, an unknown pixel format.
    """
    with open_media(path) as opened:
        if isinstance(opened, OpenImage):
            return opened.read(transform)
        from .stream import whole_clip

        return whole_clip(opened.scan(partial, max_frames), transform)


def read_picture(path: str | Path) -> Media:
    """One picture, e.g. a mask. Raises InputError as read_media, and for a clip."""
    with open_media(path) as opened:
        if not isinstance(opened, OpenImage):
            raise InputError(f"{path}: this is a video or an animation; give an image here")
        return opened.read()


def read_image(path: str | Path) -> np.ndarray:
    """One upright HWC uint8 sRGB picture, e.g. a reference. Raises InputError as read_picture."""
    return read_picture(path).frames_FHWC[0]


def write_video(path: str | Path, frames_FHWC: np.ndarray, fps: Fraction | float, **options: Any) -> tuple[str, ...]:
    """Write a clip held in memory, uint8 (F, H, W, 3). Options, errors and what is returned: encode.write_frames."""
    from .encode import ClipFormat, write_frames

    check_pixels(frames_FHWC)
    height, width = frames_FHWC.shape[1:3]
    return write_frames(path, frames_FHWC, len(frames_FHWC), ClipFormat((height, width), fps, **options))
