"""Pixels of a clip: its decoded frames -> upright sRGB, with the file's own rotation, YUV matrix and value range.

Part of reading a clip, between container.py and stream.py. What the first frame says holds for all: a clip whose size
changes is refused, every conversion leaves a note.
Legend: H W pixels, C = 3 (RGB, 0..255, sRGB).
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from av.video.reformatter import ColorRange

from ...errors import InputError
from .alpha import check_opaque, has_alpha
from .colour import LIMITED_GRAY, Colour, colour_of
from .orientation import Orientation, orientation_of
from .planes import is_alone, plane_values
from .primaries import FromP3, is_p3

# swscale: BICUBIC, FULL_CHR_H_INT, FULL_CHR_H_INP, ACCURATE_RND, BITEXACT; as numbers, older PyAV does not name them.
# Plain bilinear is off by up to 3/255 on solid colours, this by 1/255 (measured in the tests).
SWSCALE_EXACT = 4 | 0x2000 | 0x4000 | 0x40000 | 0x80000


class FrameReader:
    """Checks and converts the frames of one clip, which come in order.

    size: (H, W), upright. colour: label of the first frame's. count: frames checked so far.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.notes = path, list[str]()
        self.orientation, self.size, self.colour, self.count = Orientation(), (0, 0), "", 0
        self.from_p3: FromP3 | None = None

    def check(self, frame: Any) -> Colour:
        """How to convert one more frame. Raises InputError for HDR, transparency or a size that changes."""
        colour = colour_of(self.path, frame)
        if not self.count:
            self.orientation = orientation_of(self.path, frame)
        size = self.orientation.size(frame.height, frame.width)
        if not self.count:
            self.size, self.colour = size, colour.label
            self._check_first(frame, colour)
        elif size != self.size:
            raise InputError(
                f"{self.path}: its size changes from {self.size[1]}x{self.size[0]} to {size[1]}x{size[0]} "
                f"at frame {self.count}; export it at one size"
            )
        if has_alpha(frame):
            check_opaque(self.path, frame)
        self.count += 1
        return colour

    def _check_first(self, frame: Any, colour: Colour) -> None:
        if self.orientation.name:
            self.notes.append(f"{self.orientation.name} as its display matrix says")
        if "assumed" in self.colour:
            self.notes.append(f"colour is not tagged; read as {self.colour}")
        if is_p3(frame):
            self.from_p3 = FromP3(frame, colour)
            self.notes.append(self.from_p3.note)
        if frame.interlaced_frame:
            self.notes.append("interlaced; read as it is, without deinterlacing")
        if max((part.bits for part in frame.format.components), default=8) > 8:
            self.notes.append("more than 8 bits a channel reduced to 8")
        if has_alpha(frame):
            self.notes.append("its transparency is opaque everywhere and is left out")

    def upright(self, frame: Any, colour: Colour) -> np.ndarray:
        """One frame as upright sRGB, uint8 (H, W, 3)."""
        if colour.label == LIMITED_GRAY and is_alone(frame, frame.format.components[0]):
            return self.orientation.upright(_from_limited_gray(frame))
        if self.from_p3 is not None:
            frame, colour = self.from_p3(frame, colour)
        rgb = frame.reformat(
            format="rgb24",
            src_colorspace=colour.matrix,
            dst_colorspace=colour.matrix,
            src_color_range=colour.value_range,
            dst_color_range=ColorRange.JPEG,
            interpolation=SWSCALE_EXACT,
        )
        return self.orientation.upright(rgb.to_ndarray())

    def pixel_aspect(self, stream: Any) -> Fraction:
        """Width / height of an upright pixel; noted where it is not 1."""
        aspect = Fraction(stream.codec_context.sample_aspect_ratio or 1) or Fraction(1)
        if aspect == 1:
            return aspect
        self.notes.append(f"pixels are not square ({aspect}); the result keeps that")
        return 1 / aspect if self.orientation.transposed else aspect


def _from_limited_gray(frame: Any) -> np.ndarray:
    """uint8 (H, W, 3). swscale takes gray for full range whatever it is told: black would stay at 16."""
    part = frame.format.components[0]
    level_HW = (plane_values(frame, part) / 2 ** (part.bits - 8) - 16) * (255 / 219)
    return np.repeat(np.rint(level_HW.clip(0, 255)).astype(np.uint8)[..., None], 3, axis=-1)
