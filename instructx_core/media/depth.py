"""How many bits a channel of a picture has in its file; Pillow gives 8 of them without a word, but for gray.

Below images.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageFile

from . import avif, tiff


class Depth(NamedTuple):
    """signed: whether the numbers have a sign. inverted: whether 0 is white."""

    bits: int
    signed: bool = False
    inverted: bool = False


def depth_of(path: Path, image: Image.Image) -> Depth:
    """Of an opened picture, before it is loaded."""
    if image.format == "TIFF":
        return Depth(*tiff.bits_of(image))
    if image.format == "PNG":
        with path.open("rb") as file:
            return Depth(file.read(25)[24])
    if image.format == "JPEG2000":
        with path.open("rb") as file:
            head = file.read(512)
        size = head.find(b"\xff\x51")  # SIZ: 38 bytes after it the depth of the first channel, less one
        return Depth((head[size + 40] & 0x7F) + 1 if 0 <= size < 471 else 8)
    if image.format == "AVIF":
        return Depth(avif.read_header(path).bits)
    if image.format == "PPM" and isinstance(image, ImageFile.ImageFile) and isinstance(image.tile[0][3], tuple):
        return Depth(16 if int(image.tile[0][3][-1]) > 255 else 8)  # the arguments of its decoder: mode, largest value
    return Depth(8)
