"""Whole pictures one after the other in one file, as network cameras and `ffmpeg -f mjpeg` write them: a clip without a
clock, of which Pillow opens the first picture as if it were all.

Below images.py. Some cameras put a smaller preview behind a photo; that is no clip.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ..errors import InputError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_AFTER_JPEG = re.compile(rb"\xff\xd9[\x00\xff]{0,64}?\xff\xd8\xff")
_NOT_IN_PIXELS = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")  # what ends the coded pixels of a scan
_PLAIN = (0x01, *range(0xD0, 0xD9))  # markers of JPEG without a content
_NO_SIZE = (0xC4, 0xC8, 0xCC)  # those among C0 to CF that begin no picture


class _Picture(NamedTuple):
    """Where it ends in the file, and its (width, height) as bytes."""

    end: int
    size: bytes


def check_row(path: Path, image: Image.Image, notes: list[str]) -> None:
    """Raises InputError where another picture of the same size follows; notes one of another size."""
    follows = {"JPEG": _JPEG_AFTER_JPEG, "PNG": re.compile(re.escape(_SIGNATURE))}.get(image.format or "")
    if follows is None:
        return
    data = path.read_bytes()
    if follows.search(data, 8) is None:  # quick: almost every file ends here
        return
    measured: Callable[[bytes, int], _Picture | None] = _jpeg if image.format == "JPEG" else _png
    first = measured(data, 0)
    second = None if first is None else measured(data, _beginning(data, first.end))
    if first is None or second is None:
        return
    if first.size == second.size:
        raise InputError(
            f"{path}: is one {image.format} after the other, a clip without a clock; give it one: "
            f"ffmpeg -framerate 24 -f {'mjpeg' if image.format == 'JPEG' else 'png_pipe'} -i FILE -c copy clip.mkv"
        )
    notes.append("another picture, of another size, lies behind it in the file and is left out")


def _beginning(data: bytes, end: int) -> int:
    """Of what follows, behind bytes that only fill."""
    while end < len(data) and data[end : end + 1] in (b"\0", b"\xff") and data[end : end + 2] != b"\xff\xd8":
        end += 1
    return end


def _jpeg(data: bytes, at: int) -> _Picture | None:
    """None where no whole JPEG begins there."""
    size = b""
    if data[at : at + 2] != b"\xff\xd8":
        return None
    at += 2
    while data[at : at + 1] == b"\xff" and at + 1 < len(data):
        mark = data[at + 1]
        if mark == 0xD9:
            return _Picture(at + 2, size)
        if mark == 0xFF or mark in _PLAIN:
            at += 1 if mark == 0xFF else 2
            continue
        if 0xC0 <= mark <= 0xCF and mark not in _NO_SIZE:
            size = data[at + 5 : at + 9]
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if mark == 0xDA:
            found = _NOT_IN_PIXELS.search(data, at)
            if found is None:
                return None
            at = found.start()
    return None


def _png(data: bytes, at: int) -> _Picture | None:
    """None where no whole PNG begins there."""
    if data[at : at + 8] != _SIGNATURE:
        return None
    size, at = data[at + 16 : at + 24], at + 8
    while at + 12 <= len(data):
        name, at = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4], "big")
        if name == b"IEND":
            return _Picture(at, size)
    return None
