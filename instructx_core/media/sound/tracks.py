"""The sounds of a clip's file, each decoded once before anything else: what it is, how much of it can be heard.

Part of the scan of a clip. What is said here is known before a model is loaded.
Legend: times in seconds, from the first picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .decode import Decoder, SoundFrame
from .source import AudioSource, SoundTrack

AUDIBLE = 0.02  # a gap that is said; shorter ones are those of time stamps
OUTSIDE = 0.05  # sound before the first or after the last picture that is said


class SoundScan:
    """Follows sounds of an open file while its pictures are read. listeners: as container.decode_frames calls them."""

    def __init__(self, streams: Iterable[Any]) -> None:
        self.readers = [_Reader(number, stream) for number, stream in enumerate(streams, start=1)]
        self.listeners = {reader.stream.index: reader.read for reader in self.readers if reader.decoder is not None}

    def result(self, path: Path, video_start: float, duration: float, notes: list[str]) -> AudioSource | None:
        """The sounds, None where there is none; while the file is open: PyAV's streams read its memory.

        video_start: time of the first picture. duration: of the pictures. notes: what is left out, damaged or missing
        is said there.
        """
        if not self.readers:
            return None
        for reader in self.readers:
            reader.count_from(video_start)
        tracks = [reader.track(duration, len(self.readers) > 1) for reader in self.readers]
        lost = [text for reader in self.readers for text in reader.lost]
        notes += [*lost, *(text for reader in self.readers for text in reader.remarks)]
        return AudioSource(path, video_start, tuple(track for track in tracks if track is not None), tuple(lost))


@dataclass(slots=True, eq=False)
class _Reader:
    """Follows one sound through the file. lost, remarks: what cannot be had of it, and what else there is to say."""

    number: int
    stream: Any
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
            self.decoder = Decoder(self.stream, 0.0)  # the time of the first picture is not known yet

    def count_from(self, video_start: float) -> None:
        """From now on times count from the first picture."""
        self.first, self.last = self.first - video_start, self.last - video_start
        self.gaps = [(start - video_start, end - video_start) for start, end in self.gaps]
        if self.decoder is not None:
            self.decoder.bad = [time - video_start for time in self.decoder.bad]

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
