"""One sound of a file, decoded packet by packet: what cannot be decoded is counted, not raised.

Between the file and timeline.py; tracks.py runs through it once to see what there is.
Legend: times in seconds, from the first picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import av.error
import av.stream

from .layout import channel_layout, is_usual
from .source import SoundSetup

STRAY = 300  # packets in a row behind the end after which no one before it is waited for


@dataclass(frozen=True, slots=True, eq=False)
class SoundFrame:
    """A decoded frame, which is heard from `start` to `end`."""

    frame: Any
    start: float
    end: float
    setup: SoundSetup


class Decoder:
    """Decodes the packets of one stream. bad: times of the packets that could not be decoded."""

    def __init__(self, stream: Any, video_start: float) -> None:
        self.video_start, self.bad = video_start, list[float]()
        self.layout, self.channels = channel_layout(stream.codec_context)
        self.next, self.setups = 0.0, dict[tuple[Any, ...], SoundSetup]()
        if self.channels and not is_usual(self.layout):  # only counted: see channel_layout
            stream.codec_context.options = {"ch_layout": f"{len(self.channels)}C"}

    def decode(self, packet: Any) -> Iterator[SoundFrame]:
        """The frames of one packet; an empty packet gives what is left."""
        try:
            frames = packet.decode()
        except av.error.EOFError:
            return
        except av.error.FFmpegError:
            self.bad.append(self.next if packet.pts is None else packet_time(packet, self.video_start))
            return
        for frame in frames:
            if not frame.samples or not frame.sample_rate:
                continue
            start = self.next if frame.pts is None else packet_time(frame, self.video_start)
            setup = self._setup(frame)
            self.next = start + frame.samples / setup.rate
            yield SoundFrame(frame, start, self.next, setup)

    def _setup(self, frame: Any) -> SoundSetup:
        key = frame.sample_rate, frame.layout.name, frame.format.name
        if key not in self.setups:
            names = tuple(channel.name for channel in frame.layout.channels)
            counted = not is_usual(key[1]) and len(names) == len(self.channels)
            name, names = (self.layout, self.channels) if counted else (key[1], names)
            self.setups[key] = SoundSetup(key[0], name, names, key[2])
        return self.setups[key]


def packet_time(packet: Any, video_start: float) -> float:
    """When a packet, or a frame, that has a time stamp is heard."""
    unit = packet.time_base  # in whole numbers: a product of fractions looks for common divisors, thousands of times
    return packet.pts * unit.numerator / unit.denominator - video_start


def stream_packets(container: Any, stream: Any) -> Any:
    """Packets of one stream alone; the demuxer need not read the others where PyAV can tell it so (since 18)."""
    for other in container.streams:
        if other is not stream and hasattr(other, "discard"):
            other.discard = av.stream.Discard.all
    return container.demux(stream)


def packets_until(packets: Any, video_start: float, end: float) -> Iterator[Any]:
    """The packets up to `end`: one wrong time stamp in between does not count as the end. Stops at damage."""
    late = 0
    try:
        for packet in packets:
            late = late + 1 if packet.pts is not None and packet_time(packet, video_start) >= end else 0
            if late > STRAY:
                return
            yield packet
    except av.error.FFmpegError:
        return
