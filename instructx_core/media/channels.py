"""Channels of a picture in any of Pillow's modes -> 8-bit colours, and transparency apart; onto white and off it again.

Below images.py, before colours become sRGB: under a profile only colours are converted, and only then seen over white.
Legend: H W pixels, C = 3 (RGB).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError
from .depth import Depth

_MODES = ("RGB", "RGBA", "RGBX", "L", "LA", "La", "P", "PA", "1", "CMYK", "YCbCr", "RGBa", "LAB")
_GRAYS = ("L", "LA", "La", "1")
_KEY = "transparency"  # of Pillow's info: the colour, or the palette's levels, that a PNG or GIF shows as nothing


def with_wide_key(path: Path, image: Image.Image, depth: Depth) -> Image.Image:
    """The picture, with alpha where it is one 16-bit colour of a PNG, which Pillow compares with 8-bit pixels."""
    if depth.bits <= 8 or image.mode != "RGB" or _KEY not in image.info or image.format != "PNG":
        return image
    import av

    (frame,) = av.CodecContext.create("png", "r").decode(av.Packet(path.read_bytes()))  # FFmpeg's keeps 16 bits
    alpha_HW = np.asarray(frame.reformat(format="rgba").to_ndarray())[..., 3]  # type: ignore[attr-defined]
    image.putalpha(Image.fromarray(np.where(alpha_HW > 0, 255, 0).astype(np.uint8)))
    del image.info[_KEY]
    return image


def without_alpha(
    path: Path, image: Image.Image, depth: Depth, notes: list[str]
) -> tuple[Image.Image, np.ndarray | None]:
    """(colours with 8 bits a channel, uint8 (H, W) alpha of a picture that is not opaque everywhere, else None).

    Raises InputError for numbers that have no fixed black and white.
    """
    mode = image.mode
    if depth.signed or mode == "F":
        kind = "signed" if depth.signed else "float"
        raise InputError(f"{path}: {kind} numbers have no fixed black and white; save it with 8 or 16 bits a channel")
    if mode.startswith("I"):
        return _from_wide_gray(path, image, depth, notes)
    if mode not in _MODES:
        raise InputError(f"{path}: pixel format {mode} is not supported; save it as 8-bit RGB")
    if depth.bits > 8:
        notes.append(f"{depth.bits} bits a channel reduced to 8")
    if mode in _GRAYS:
        notes.append("gray repeated over R, G, B")
    if mode not in ("RGBA", "LA", "La", "PA", "RGBa") and _KEY not in image.info:
        return image, None
    if mode == "L" and depth.bits < 8 and isinstance(image.info[_KEY], int):  # Pillow widens the pixels, not the key
        key = image.info[_KEY] * 255 // (2**depth.bits - 1)
        return image, _seen(np.where(np.asarray(image) == key, 0, 255).astype(np.uint8))
    rgba = image.convert("RGBA")
    plain = rgba.getchannel("R") if mode in _GRAYS else rgba.convert("RGB")
    return plain, _seen(np.array(rgba.getchannel("A")))


def _from_wide_gray(
    path: Path, image: Image.Image, depth: Depth, notes: list[str]
) -> tuple[Image.Image, np.ndarray | None]:
    wide_HW, key = np.asarray(image).astype(np.int64), image.info.get(_KEY)
    if wide_HW.min() < 0 or wide_HW.max() > 65535:
        raise InputError(
            f"{path}: integer pixels in {wide_HW.min()}..{wide_HW.max()}; save it with 8 or 16 bits a channel"
        )
    bits = depth.bits if 8 < depth.bits < 16 else 16
    notes.append(f"{bits}-bit gray reduced to 8 bits and repeated over R, G, B")
    gray_HW = np.round(wide_HW * 255 / (2**bits - 1)).astype(np.uint8)
    alpha_HW = None if key is None else _seen(np.where(wide_HW == key, 0, 255).astype(np.uint8))
    return Image.fromarray(255 - gray_HW if depth.inverted else gray_HW), alpha_HW


def _seen(alpha_HW: np.ndarray) -> np.ndarray | None:
    return None if alpha_HW.min() == 255 else alpha_HW


def over_white(plain: Image.Image, alpha_HW: np.ndarray) -> Image.Image:
    """RGB as it looks on white; the picture that is given becomes RGBA, which spares a copy."""
    plain.putalpha(Image.fromarray(alpha_HW))
    return Image.alpha_composite(Image.new("RGBA", plain.size, "white"), plain).convert("RGB")


def off_white(frame_HWC: np.ndarray, alpha_HW: np.ndarray) -> np.ndarray:
    """Colours that look like `frame_HWC` on white, as near as 8 bits can; what is not seen at all stays as it is."""
    part_HW1 = np.maximum(alpha_HW, 1)[..., None] / 255.0
    colour_HWC = np.clip(np.rint(255 - (255.0 - frame_HWC) / part_HW1), 0, 255).astype(np.uint8)
    return np.where(alpha_HW[..., None] > 0, colour_HWC, frame_HWC)
