"""What a TIFF holds, by its directories: one picture, pages, smaller copies, or a camera's raw photo.

Below images.py and foreign.py. Cameras write raw photos as TIFF whose first picture is a small preview, which Pillow
opens as if it were the photo.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_KIND, _BITS, _COMPRESSION, _PHOTOMETRIC, _PARTS, _FORMAT, _DNG = 254, 258, 259, 262, 330, 339, 50706
_SENSOR = (32803, 34892)  # photometric: colour filter array, linear raw
_COLOURS = {
    0: "gray",
    1: "gray",
    2: "RGB",
    3: "palette",
    4: "mask",
    5: "CMYK",
    6: "YCbCr",
    8: "Lab",
    9: "Lab",
    10: "Lab",
}
_NUMBERS = {2: "signed", 3: "float"}
_DAMAGE = (struct.error, OSError, SyntaxError, ValueError, KeyError, TypeError, IndexError, OverflowError)


def directories(path: Path) -> list[ImageFileDirectory_v2]:
    """The directories of a TIFF in their order, each followed by those below it; as many as can be read."""
    found: list[ImageFileDirectory_v2] = []
    try:
        found.extend(_directories(path))
    except _DAMAGE:
        pass  # whoever decodes the file says what is wrong with it
    return found


def _directories(path: Path) -> Iterator[ImageFileDirectory_v2]:
    with path.open("rb") as file:
        head = file.read(16)
        big = head[2:4] in (b"+\0", b"\0+")
        waiting, seen = [ImageFileDirectory_v2(head[: 16 if big else 8]).next], set[int]()
        while waiting:
            offset = waiting.pop(0)
            if offset and offset not in seen:
                seen.add(offset)
                directory = ImageFileDirectory_v2(head[: 16 if big else 8])
                file.seek(offset)
                directory.load(file)
                yield directory
                waiting = [*directory.get(_PARTS, ()), *waiting, directory.next]


def is_raw(found: list[ImageFileDirectory_v2]) -> bool:
    """Whether it is a photo as the sensor saw it."""
    first = found[0] if found else {}
    preview = bool(first.get(_KIND, 0) & _REDUCED) and _PARTS in first
    return _DNG in first or preview or any(each.get(_PHOTOMETRIC) in _SENSOR for each in found)


def pixel_description(found: list[ImageFileDirectory_v2]) -> str:
    """What the pixels of the first picture are, for a person: "32-bit float RGB, compression 1"."""
    tags: Any = found[0]
    bits, number = max(tags.get(_BITS, (1,))), _NUMBERS.get(max(tags.get(_FORMAT, (1,))), "integer")
    colours = _COLOURS.get(tags.get(_PHOTOMETRIC, -1), "unknown colours")
    return f"{bits}-bit {number} {colours}, compression {tags.get(_COMPRESSION, 1)}"


def bits_of(image: Image.Image) -> tuple[int, bool, bool]:
    """(bits of a channel, whether its numbers have a sign, whether 0 is white) of an opened TIFF."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    return max(tags.get(_BITS, (1,))), 2 in tags.get(_FORMAT, ()), tags.get(_PHOTOMETRIC) == 0


def pages_of(image: Image.Image) -> list[int]:
    """Numbers of the pictures in an opened TIFF that are pages, neither smaller copies nor masks of others."""
    pages = []
    for number in range(getattr(image, "n_frames", 1)):
        image.seek(number)
        if not image.tag_v2.get(_KIND, 0) & (_REDUCED | _MASK):  # type: ignore[attr-defined]
            pages.append(number)
    image.seek(0)
    return pages or [0]
