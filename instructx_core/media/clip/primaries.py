"""Colours of a clip with P3 primaries, as screen recorders of Macs write them -> BT.709's, through FFmpeg's filter.

Part of reading a clip, below video.py, before YUV becomes RGB. Codes of ITU-T H.273.
"""

from __future__ import annotations

import re
from typing import Any

import av
import av.filter
from av.video.reformatter import ColorRange, Colorspace

from .colour import Colour

_PRIMARIES = {11: "smpte431", 12: "smpte432"}
_NAMES = {11: "DCI-P3", 12: "Display P3"}
_CURVES = {4: "gamma22", 5: "gamma28", 13: "iec61966-2-1"}  # all others that are no HDR: BT.709's
_MATRICES = {
    Colorspace.ITU709: "bt709",
    Colorspace.FCC: "fcc",
    Colorspace.ITU601: "smpte170m",
    Colorspace.SMPTE240M: "smpte240m",
}
_FORMATS = re.compile(r"yuv4(20|22|44)p(10le|12le)?")


class FromP3:
    """Converts the frames of one clip, which come in order. note: what it does, or that it cannot."""

    def __init__(self, frame: Any, colour: Colour) -> None:
        """frame: the clip's first, of primaries that is_p3 knows."""
        name, self.graph = _NAMES[frame.color_primaries], None
        if not _FORMATS.fullmatch(frame.format.name):
            self.note = f"its colours are of {name}, read as BT.709's: a little too pale"
            return
        self.note = f"converted from the colours of {name} to BT.709's"
        curve = _CURVES.get(frame.color_trc, "bt709")
        full = "pc" if colour.value_range == ColorRange.JPEG else "tv"
        self.graph = av.filter.Graph()
        source = self.graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        given = f"ispace={_MATRICES[colour.matrix]}:iprimaries={_PRIMARIES[frame.color_primaries]}:itrc={curve}"
        wanted = f"space=bt709:primaries=bt709:trc={curve}:range=tv:format={frame.format.name.removesuffix('le')}"
        convert = self.graph.add("colorspace", f"{given}:irange={full}:{wanted}")
        sink = self.graph.add("buffersink")
        source.link_to(convert)
        convert.link_to(sink)
        self.graph.configure()

    def __call__(self, frame: Any, colour: Colour) -> tuple[Any, Colour]:
        """The frame, and how to turn it into RGB."""
        if self.graph is None:
            return frame, colour
        self.graph.push(frame)
        return self.graph.pull(), Colour(Colorspace.ITU709, ColorRange.MPEG, colour.label)


def is_p3(frame: Any) -> bool:
    return getattr(frame, "color_primaries", 2) in _PRIMARIES  # PyAV before 17 does not tell
