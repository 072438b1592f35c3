"""The sound of a clip: found in its file, and fed into the file that is written, cut to the pictures' length.

Beside reading and writing of clips. Packets are copied as they are, or encoded anew as AAC where the container cannot
hold them.
Legend: times in seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av

from .base import AudioSource
from .container import open_container

# Codecs that go into the container as they are.
_COPIED = {
    ".mp4": "aac mp3 mp3float ac3 eac3 alac".split(),
    ".mov": "aac mp3 mp3float ac3 alac pcm_s16le pcm_s24le".split(),
    ".mkv": "aac mp3 mp3float ac3 eac3 alac opus vorbis flac pcm_s16le pcm_s24le dts".split(),
}

Packets = tuple[float, Sequence[Any]]  # packets, and the time of the first


def find_audio(path: Path, container: Any, video_start: float) -> AudioSource | None:
    """The first sound of an open file. video_start: time of the first picture, or NaN."""
    if not container.streams.audio:
        return None
    stream = container.streams.audio[0]
    duration = None
    if stream.duration is not None and stream.time_base is not None:
        duration = float(stream.duration * stream.time_base)
    start = video_start if video_start == video_start else 0.0  # NaN: no timestamps
    return AudioSource(path, stream.index, stream.codec_context.name, start, duration)


class Sound:
    """Feeds the audio of another file into `out` in step with the video, so that nothing piles up in the muxer."""

    def __init__(self, out: Any, suffix: str, audio: AudioSource | None, duration: float, notes: list[str]) -> None:
        self.out, self.source = out, None
        self.packets: Iterator[Packets] = iter(())
        self.waiting: Packets | None = None
        if audio is None:
            return
        self.source = open_container(audio.path)
        stream = self.source.streams[audio.stream]
        if audio.codec in _COPIED[suffix]:
            target = out.add_stream_from_template(stream)
            self.packets = self._copied(stream, target, audio.video_start, duration)
            notes.append(f"audio ({audio.codec}) copied")
        else:
            target = out.add_stream("aac", rate=stream.codec_context.sample_rate)
            target.layout = stream.codec_context.layout
            self.packets = self._encoded(stream, target, audio.video_start, duration)
            notes.append(f"audio ({audio.codec}) encoded anew as AAC: {suffix} cannot hold it")

    def _copied(self, stream: Any, target: Any, start: float, end: float) -> Iterator[Packets]:
        shift = round(start / stream.time_base)
        for packet in self.source.demux(stream):  # type: ignore[union-attr]
            if packet.pts is None or packet.dts is None:
                continue
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            time = float(packet.pts * packet.time_base)
            if time >= end:
                break
            packet.stream = target
            yield time, [packet]

    def _encoded(self, stream: Any, target: Any, start: float, end: float) -> Iterator[Packets]:
        resampler = av.AudioResampler(format="fltp", layout=target.layout, rate=target.rate)
        for frame in self.source.decode(stream):  # type: ignore[union-attr]
            time = float(frame.time or 0.0) - start
            if time >= end:
                break
            for part in resampler.resample(frame):
                part.pts = None if part.pts is None else part.pts - round(start * part.sample_rate)
                yield time, target.encode(part)
        yield end, target.encode(None)

    def mux_until(self, time: float) -> None:
        """Write what is heard up to `time`."""
        while True:
            item = self.waiting or next(self.packets, None)
            if item is None or item[0] > time:
                self.waiting = item
                return
            self.waiting = None
            self.out.mux(list(item[1]))

    def finish(self) -> None:
        """Write the rest and close the source."""
        self.mux_until(float("inf"))
        if self.source is not None:
            self.source.close()
