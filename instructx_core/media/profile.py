"""Colours of a picture -> sRGB through LittleCMS: an embedded ICC profile, or one made of primaries and a curve.

Below images.py. Whether a profile is sRGB is measured, its name may lie. Legend: chromaticities are CIE 1931 x, y.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageCms

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "LAB": "LAB"}  # colours of a profile -> Pillow's mode
_CONVERTED = {"RGB": ("1", "L", "P", "RGBX", "YCbCr"), "L": ("1",)}  # modes that become another one first
_TOLERANCE = 2  # levels of 255 by which two profiles of one space differ, with curves as tables or as formulas
_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def to_srgb(image: Image.Image, profile: bytes | ImageCms.ImageCmsProfile, notes: list[str]) -> Image.Image:
    """A picture without alpha -> RGB, with a note where that changes a colour; as it is where the profile is broken."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if isinstance(profile, bytes) else profile
        name = ImageCms.getProfileDescription(source).strip()
        opened: Any = source.profile  # Pillow types it as the file that it was read from
        wanted = _MODES.get(opened.xcolor_space.strip().upper(), "")
        fitting = image.convert(wanted) if image.mode in _CONVERTED.get(wanted, ()) else image
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), fitting.mode, "RGB")
        if fitting.mode in ("RGB", "L") and _is_identity(transform, fitting.mode):
            return fitting
        done = ImageCms.applyTransform(fitting, transform)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        notes.append(f"its colour profile cannot be applied and was ignored ({error})")
        return image
    notes.append(f"converted from the colour profile '{name}' to sRGB")
    return image if done is None else done


def _is_identity(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether it leaves a grid of colours, dark ones among them, as they are."""
    levels = np.array([0, 4, 10, 20, 40, 64, 96, 128, 160, 192, 224, 255], np.uint8)
    colours = levels[:, None] if mode == "L" else np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 1, 3)
    made = ImageCms.applyTransform(Image.fromarray(colours), transform)
    want = np.broadcast_to(colours[..., None] if mode == "L" else colours, (len(colours), 1, 3))
    return made is not None and bool(np.abs(np.asarray(made).astype(int) - want).max() <= _TOLERANCE)


def lab_profile() -> ImageCms.ImageCmsProfile:
    """Of pixels that are CIE L*a*b* themselves."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))


def make_profile(name: str, red_green_blue_white: Sequence[float], curve: Sequence[float]) -> ImageCms.ImageCmsProfile:
    """An ICC profile. red_green_blue_white: x, y of each. curve: one exponent, or the five numbers of sRGB's kind."""
    xy = np.reshape(np.asarray(red_green_blue_white, float), (4, 2))
    xyz = np.stack([xy[:, 0] / xy[:, 1], np.ones(4), (1 - xy.sum(1)) / xy[:, 1]])  # columns: R, G, B, white
    adapt = np.linalg.inv(_BRADFORD) @ np.diag(_BRADFORD @ _D50 / (_BRADFORD @ xyz[:, 3])) @ _BRADFORD
    columns = adapt @ (xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3]))
    text = name.encode("ascii")
    kind = 0 if len(curve) == 1 else 3
    tone = b"para" + struct.pack(">IHH", 0, kind, 0) + b"".join(_fixed(value) for value in curve)
    tags = {
        b"desc": b"desc" + struct.pack(">II", 0, len(text) + 1) + text + bytes(79),
        b"wtpt": _xyz(_D50),
        **{tag: _xyz(columns[:, i]) for i, tag in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))},
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), tone),
    }
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + b"".join(map(_fixed, _D50))
    return ImageCms.ImageCmsProfile(io.BytesIO(head + bytes(128 - len(head)) + table + body))


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values: Sequence[float] | np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(map(_fixed, values))
