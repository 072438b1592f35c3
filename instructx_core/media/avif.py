"""What an AVIF says of its first picture beside the pixels: bits a channel, and H.273 codes of its colours.

Below depth.py and cicp.py. Pillow decodes AVIF and tells neither. Most files say it once, in their header; of others,
such as those with a second picture for HDR screens, FFmpeg finds the first one's.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

_HEADER = 1 << 16


class AvifHeader(NamedTuple):
    """bits: a channel. primaries and transfer: as in ITU-T H.273."""

    bits: int
    primaries: int
    transfer: int


def read_header(path: Path) -> AvifHeader:
    """Raises InputError for a file that cannot be read. Asked for several times of one file, and of each picture."""
    found = path.stat()
    return _read_header(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=4)
def _read_header(path: Path, _changed: int, _size: int) -> AvifHeader:
    with path.open("rb") as file:
        head = file.read(_HEADER)
    codes = {(data[1], data[3]) for data in re.findall(rb"colrnclx(.{4})", head, re.DOTALL)}
    flags = {data[2] for data in re.findall(rb"av1C(.{3})", head, re.DOTALL)}
    if len(codes) == 1 and flags:
        deep = any(flag & 0x40 for flag in flags)
        return AvifHeader((12 if any(flag & 0x20 for flag in flags) else 10) if deep else 8, *codes.pop())
    from .clip.container import open_container

    with open_container(path) as container:
        context = container.streams.video[0].codec_context
        bits = max(part.bits for part in context.format.components) if context.format is not None else 8
        return AvifHeader(bits, int(context.color_primaries), int(context.color_trc))
