"""Which colours the numbers of a clip's frame mean: YUV matrix and value range, as the file says or players assume.

Part of reading a clip, asked by video.py for every frame. HDR is refused: tone mapping is not built in.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from av.video.reformatter import ColorRange, Colorspace

from ...errors import InputError
from .known import HDR_TRANSFER

# Numbers of ITU-T H.273, as FFmpeg uses them: matrix, transfer, primaries.
_MATRIX = {
    1: ("bt709", Colorspace.ITU709),
    4: ("fcc", Colorspace.FCC),
    5: ("bt601", Colorspace.ITU601),
    6: ("bt601", Colorspace.ITU601),
    7: ("smpte240m", Colorspace.SMPTE240M),
}
_BT2020 = (9, 10)
_FULL = 2
LIMITED_GRAY = "gray limited"


class Colour(NamedTuple):
    """How to turn a frame into RGB. label: the same for a person, e.g. "bt709 limited"."""

    matrix: Colorspace
    value_range: ColorRange
    label: str


def colour_of(path: Path, frame: Any) -> Colour:
    """Untagged clips follow the players' habit: HD is BT.709, smaller is BT.601. Raises InputError for HDR."""
    transfer = int(getattr(frame, "color_trc", 2) or 2)
    wide = int(frame.colorspace) in _BT2020 or int(getattr(frame, "color_primaries", 2) or 2) == _BT2020[0]
    if transfer in HDR_TRANSFER or wide:
        kind = HDR_TRANSFER.get(transfer, "BT.2020")
        raise InputError(f"{path}: HDR clip ({kind}); convert it to SDR (BT.709) first, tone mapping is not built in")
    gray, tagged = frame.format.name.startswith(("gray", "ya")), int(frame.color_range)
    full = tagged == _FULL or frame.format.name.startswith("yuvj") or frame.format.is_rgb or (gray and not tagged)
    value_range = ColorRange.JPEG if full else ColorRange.MPEG
    label_range = "full" if full else "limited"
    if frame.format.is_rgb:
        return Colour(Colorspace.ITU709, value_range, "rgb")
    if gray:  # without a tag it is full, as FFmpeg writes it; H.265 and AV1 always say
        return Colour(Colorspace.ITU709, value_range, f"gray {label_range}" + ("" if tagged else " (assumed)"))
    if int(frame.colorspace) in _MATRIX:
        name, matrix = _MATRIX[int(frame.colorspace)]
        return Colour(matrix, value_range, f"{name} {label_range}")
    if frame.height >= 720 or frame.width >= 1280:
        return Colour(Colorspace.ITU709, value_range, f"bt709 {label_range} (assumed, HD)")
    return Colour(Colorspace.ITU601, value_range, f"bt601 {label_range} (assumed, SD)")
