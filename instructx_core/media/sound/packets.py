"""Packets of one sound for the file that is written: copied from the source, or decoded, put on one line of time and
encoded. Everything lies between the first picture and the last.

Between plan.py, which decides, and feed.py, which writes.
Legend: times in seconds, from the first picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

from .decode import Decoder, packet_time, packets_until, stream_packets
from .source import SoundTrack
from .timeline import Target, Timeline

# How long before the first picture packets are copied: decoders need some to start, and what lies before is cut by an
# edit list, which Matroska has not.
EARLY = {"mp4": 0.1, "mov": 0.1, "matroska": 0.0}

Packets = tuple[float, Sequence[Any]]  # packets, and the time of the first


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a sound is encoded. codec: FFmpeg's name of the encoder. bits: a second, None where nothing is lost."""

    codec: str
    target: Target
    bits: int | None = None


def new_stream(out: Any, source: Any, track: SoundTrack, encoding: Encoding | None) -> Any:
    """A stream of `out` for this sound. source: the stream that it is copied from where there is no encoding."""
    if encoding is None:
        stream = out.add_stream_from_template(source)
    else:
        stream = out.add_stream(encoding.codec, rate=encoding.target.rate)
        stream.codec_context.layout, stream.codec_context.format = encoding.target.layout, encoding.target.sample
        if encoding.bits:
            stream.codec_context.bit_rate = encoding.bits
    stream.metadata.update(track.about)
    return stream


def copy_packets(container: Any, source: Any, stream: Any, video_start: float, end: float) -> Iterator[Packets]:
    """The packets of `source` for `stream`, as they are."""
    shift = round(video_start / source.time_base)
    early = EARLY[stream.container.format.name]
    packets = (
        packet
        for packet in packets_until(stream_packets(container, source), video_start, end)
        if packet.pts is not None and packet.dts is not None  # an empty packet ends the stream
    )
    for packet, following in pairwise(chain(packets, [None])):
        time = packet_time(packet, video_start)
        if time >= end or _heard_until(packet, following, video_start) <= -early:
            continue
        packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
        yield time, [packet]


def _heard_until(packet: Any, following: Any | None, video_start: float) -> float:
    """When a packet ends: some containers do not say how long it is."""
    if packet.duration:
        return packet_time(packet, video_start) + float(packet.duration * packet.time_base)
    return math.inf if following is None else packet_time(following, video_start)


def encode_packets(
    container: Any, source: Any, stream: Any, target: Target, video_start: float, end: float
) -> Iterator[Packets]:
    """`source` decoded, converted to `target` and encoded by `stream`."""
    decoder, line = Decoder(source, video_start), Timeline(target, end)
    for packet in packets_until(stream_packets(container, source), video_start, end):
        for heard in decoder.decode(packet):
            for part in line.put(heard):
                yield part.pts / target.rate, stream.encode(part)
    for part in line.finish():
        yield part.pts / target.rate, stream.encode(part)
    yield end, stream.encode(None)
