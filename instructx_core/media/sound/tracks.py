"""The sounds of a clip's file, each decoded once before anything else: what it is, how much of it can be heard.

Part of the scan of a clip. What is said here is known before a model is loaded.
Legend: times in seconds, from the first picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import av.error

from ..base import AudioSource, SoundTrack
from ..container import open_container
from .decode import Decoder, SoundFrame

AUDIBLE = 0.02  # a gap that is said; shorter ones are those of time stamps
OUTSIDE = 0.05  # sound before the first or after the last picture that is said


def find_audio(path: Path, video_start: float, duration: float, notes: list[str]) -> AudioSource | None:
    """The sounds of a clip, None where it has none. video_start: time of the first picture. duration: of the pictures.
    notes: what is left out, damaged or missing is said there."""
    with open_container(path) as container:
        readers = [
            _Reader(number, stream, video_start) for number, stream in enumerate(container.streams.audio, start=1)
        ]
        by_stream = {reader.stream.index: reader for reader in readers if reader.decoder is not None}
        for packet in _packets(container, [*by_stream.values()]):
            by_stream[packet.stream.index].read(packet)
        # Before the file is closed: PyAV's streams read its memory.
        tracks = [reader.track(duration, len(readers) > 1) for reader in readers]
    lost = [text for reader in readers for text in reader.lost]
    notes += [*lost, *(text for reader in readers for text in reader.remarks)]
    sound = tuple(track for track in tracks if track is not None)
    return AudioSource(path, video_start, sound, tuple(lost)) if readers else None


def _packets(container: Any, readers: list[_Reader]) -> Iterator[Any]:
    try:
        yield from container.demux([reader.stream for reader in readers]) if readers else ()
    except av.error.FFmpegError:
        return  # the scan of the pictures tells of a damaged file; what was read before is heard


@dataclass(slots=True, eq=False)
class _Reader:
    """Follows one sound through the file. lost, remarks: what cannot be had of it, and what else there is to say."""

    number: int
    stream: Any
    video_start: float
    decoder: Decoder | None = None
    first: float = math.inf
    last: float = -math.inf
    gaps: list[tuple[float, float]] = field(default_factory=list)
    twice: float = 0.0  # seconds at which there are two
    ordered: bool = True  # the times of its packets can be copied
    dts: float = -math.inf  # of the last packet
    packets: int = 0
    lost: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.stream.codec_context is not None:
            self.decoder = Decoder(self.stream, self.video_start)

    def read(self, packet: Any) -> None:
        assert self.decoder is not None
        if packet.size:
            self.packets += 1
            self.ordered &= packet.pts is not None and packet.dts is not None and packet.dts > self.dts
            self.dts = self.dts if packet.dts is None else packet.dts
        for sound in self.decoder.decode(packet):
            self._extend(sound)

    def _extend(self, sound: SoundFrame) -> None:
        if sound.start - self.last > AUDIBLE and self.last > -math.inf:
            self.gaps.append((self.last, sound.start))
        if self.last - sound.start > AUDIBLE:
            self.twice += min(self.last, sound.end) - sound.start
        self.first, self.last = min(self.first, sound.start), max(self.last, sound.end)

    def track(self, duration: float, several: bool) -> SoundTrack | None:
        """What is known of it at the end; None where nothing can be heard."""
        name = f"audio {self.number}" if several else "audio"
        if self.decoder is None:
            self.lost.append(f"{name} left out: this FFmpeg knows no decoder for it")
            return None
        codec = self.stream.codec_context.codec
        name = f"{name} ({codec.canonical_name})"
        if self.last == -math.inf:
            self.lost.append(f"{name} left out: " + ("none of it can be heard" if self.packets else "it holds nothing"))
            return None
        if self.first >= duration or self.last <= 0:
            where = "after" if self.first > 0 else "before"
            self.lost.append(f"{name} left out: it is heard only {where} the pictures")
            return None
        self._remark(name, duration)
        return SoundTrack(
            stream=self.stream.index,
            name=name,
            codec=codec.canonical_name,
            lossless=bool(codec.lossless) and not codec.lossy,
            setups=tuple(self.decoder.setups.values()),
            ordered=self.ordered,
            damaged=len(self.decoder.bad),
            about={key: self.stream.metadata[key] for key in ("language", "title") if key in self.stream.metadata},
        )

    def _remark(self, name: str, duration: float) -> None:
        assert self.decoder is not None
        bad, silent = self.decoder.bad, sum(end - start for start, end in self.gaps)
        if bad:
            packets = "1 packet" if len(bad) == 1 else f"{len(bad)} packets"
            where = f"the first at {max(bad[0], 0):.2f} s; {silent:.2f} s are silent"
            self.lost.append(f"{name}: {packets} cannot be decoded, {where}")
        elif self.gaps:
            where = f"first at {self.gaps[0][0]:.2f} s; silent there"
            self.remarks.append(f"{name}: there is none for {silent:.2f} s, {where}")
        if self.twice > AUDIBLE:
            self.remarks.append(f"{name}: {self.twice:.2f} s have the time of other sound; one of the two is heard")
        if self.first < -OUTSIDE:
            self.remarks.append(f"{name}: {-self.first:.2f} s before the first picture left out")
        if self.last > duration + OUTSIDE:
            self.remarks.append(f"{name}: {self.last - duration:.2f} s after the last picture left out")
