"""Which way up a stored picture is shown: the eight ways of a display matrix, as numbers and as a sentence.

Below video.py, which reads clips; a photo's EXIF has the same eight and goes through Pillow.
Legend: H W pixels, C = 3 (RGB).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError

_NAMES = {
    (False, True, False): "mirrored left to right",
    (False, False, True): "mirrored top to bottom",
    (False, True, True): "turned by 180 degrees",
    (True, True, False): "turned by 90 degrees clockwise",
    (True, False, True): "turned by 90 degrees anticlockwise",
    (True, False, False): "mirrored along its diagonal",
    (True, True, True): "mirrored along its other diagonal",
}


@dataclass(frozen=True, slots=True)
class Orientation:
    """Rows become columns (transposed), then right becomes left (across), then bottom becomes top (down)."""

    transposed: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @property
    def name(self) -> str:
        """For a person; "" where the picture is shown as it is stored."""
        return _NAMES.get((self.transposed, self.flip_x, self.flip_y), "")

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) of a stored picture as it is shown."""
        return (width, height) if self.transposed else (height, width)

    def upright(self, picture_HWC: np.ndarray) -> np.ndarray:
        """A stored picture as it is shown."""
        if not self.name:
            return picture_HWC
        turned = picture_HWC.swapaxes(0, 1) if self.transposed else picture_HWC
        return np.ascontiguousarray(turned[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1])


def orientation_of(path: Path, frame: Any) -> Orientation:
    """What the display matrix of a decoded frame asks for. Raises InputError for a slanted one.

    The matrix is that of ISO 14496-12: x' = a x + c y, y' = b x + d y with y downwards; nine numbers in 16.16, u v w in
    2.30, which FFmpeg hands on as they are stored.
    """
    data = next((bytes(side) for side in frame.side_data if side.type.name == "DISPLAYMATRIX"), None)
    if data is None:
        return Orientation()
    a, b, _, c, d, *_ = struct.unpack("=9i", data[:36])
    small = max(abs(a), abs(b), abs(c), abs(d)) / 50  # of a cosine that was rounded
    straight, turned = max(abs(b), abs(c)) <= small, max(abs(a), abs(d)) <= small
    if straight:  # also of a matrix of zeros, which players take for none
        return Orientation(flip_x=a < 0, flip_y=d < 0)
    if turned:
        return Orientation(transposed=True, flip_x=c < 0, flip_y=b < 0)
    raise InputError(
        f"{path}: its display matrix turns it by {int(frame.rotation) % 360} degrees or slants it; only quarter turns "
        "and mirrors work: export it upright"
    )
