"""Channels of a sound: which loudspeaker each one is for, and into which of the usual layouts they go.

Asked by decode.py of every set-up, by plan.py for the encoder. Names of channels and layouts are FFmpeg's: FL front
left, LFE the deep one, BL back, SL side.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

# In the order of bits of FFmpeg's masks, which is the order of the samples of a native layout.
NATIVE = (
    "FL FR FC LFE BL BR FLC FRC BC SL SR TC TFL TFC TFR TBL TBC TBR DL DR WL WR SDL SDR LFE2 TSL TSR BFC BFL BFR"
).split()
# What a file means that counts its channels without naming them (WAVE without a mask).
UNNAMED = {
    1: ("mono", "FC"),
    2: ("stereo", "FL FR"),
    3: ("3.0", "FL FR FC"),
    4: ("quad", "FL FR BL BR"),
    5: ("5.0", "FL FR FC BL BR"),
    6: ("5.1", "FL FR FC LFE BL BR"),
    7: ("6.1", "FL FR FC LFE BC SL SR"),
    8: ("7.1", "FL FR FC LFE BL BR SL SR"),
}
# What every AAC decoder knows without a description in the stream, from small to large.
USUAL = {
    "mono": "FC",
    "stereo": "FL FR",
    "3.0": "FL FR FC",
    "4.0": "FL FR FC BC",
    "5.0": "FL FR FC BL BR",
    "5.1": "FL FR FC LFE BL BR",
    "7.1": "FL FR FC LFE BL BR SL SR",
}


def channel_layout(context: Any) -> tuple[str, tuple[str, ...]]:
    """(name, names of the channels) of a decoder that is not open yet.

    PyAV (up to 18 at least) frees the list of a layout in an order of its own twice, once for each object that shows
    it, and the process aborts. So this object is never freed: some 100 bytes for each file.
    """
    layout = context.layout
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(layout))
    return layout.name, tuple(channel.name for channel in layout.channels)


def is_usual(name: str) -> bool:
    """Whether a layout has a name of its own: then its samples are in native order."""
    return not (" channels" in name or name.startswith("ambisonic"))


def places(channels: Sequence[str]) -> tuple[str, ...]:
    """The loudspeaker of each channel: as named, or as such a number of channels is meant; () where nobody can say."""
    if len(set(channels)) == len(channels) and set(channels) <= set(NATIVE):
        return tuple(channels)
    if channels and channels[0].startswith("AMBI"):
        return ("FC",)  # the first of them is what a single microphone would hear
    return tuple(UNNAMED[len(channels)][1].split()) if len(channels) in UNNAMED else ()


def native(names: Sequence[str]) -> str:
    """FFmpeg's name of the layout that has these channels, in native order."""
    return "+".join(sorted(names, key=NATIVE.index))


def pan(channels: Sequence[str]) -> str:
    """The argument of FFmpeg's pan: channels in any order -> the same in native order."""
    speakers = places(channels)
    return "|".join([native(speakers), *(f"{name}=c{speakers.index(name)}" for name in speakers)])


def usual_layout(wanted: set[str]) -> tuple[str, bool]:
    """The smallest usual layout that holds these loudspeakers; whether it does, or some are mixed into others."""
    if not wanted & {"BL", "BR", "BC"}:
        wanted = {{"SL": "BL", "SR": "BR"}.get(name, name) for name in wanted}
    for name, has in USUAL.items():
        if wanted <= set(has.split()):
            return name, True
    if wanted - {"BC"} <= set(USUAL["7.1"].split()) - {"BL", "BR"}:
        return "7.1", True  # what was behind comes from both sides of behind
    return ("7.1" if wanted - {"FL", "FR", "DL", "DR"} else "stereo"), False
