"""Clips with a white picture wherever there is a short tone, made with PyAV alone, and where both are in a file.

FLASHES: numbers of the white pictures, at RATE pictures a second. Channel n is heard n * APART seconds later than the
first, so that the order of channels can be told. Times in seconds; of a file, from its first picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

RATE, PICTURES, FLASHES, APART, TONE = 10, 17, (3, 11), 0.05, 0.03
PICTURE_CODECS = {".webm": "libvpx", ".avi": "mjpeg", ".ts": "mpeg2video", ".flv": "flv", ".asf": "msmpeg4"}


def write_clip(
    path: Path,
    codec: str = "pcm_s16le",
    *,
    rate: int = 48000,
    layouts: tuple[str, ...] = ("stereo",),
    sound_at: float = 0.0,
    pictures_at: float = 0.0,
    hole: tuple[float, float] | None = None,
) -> Path:
    """A clip of PICTURES pictures with a sound in each of `layouts`, "12C" is 12 channels for nothing.

    sound_at, pictures_at: when they begin in the file's own time. hole: from when to when there is no sound, from the
    first picture.
    """
    with av.open(str(path), "w") as out:
        video = _picture_stream(out, path.suffix)
        sounds = [_sound_stream(out, codec, rate, layout) for layout in layouts]
        # One packet after the other, as in a file that is recorded, so that no muxer has to wait.
        packets = list(_pictures(video, pictures_at))
        for stream, layout in zip(sounds, layouts, strict=True):
            packets += _sound(stream, layout, rate, sound_at, pictures_at, hole)
        for _, packet in sorted(packets, key=lambda item: item[0]):
            out.mux(packet)
    return path


def _picture_stream(out: Any, suffix: str) -> Any:
    codec = PICTURE_CODECS.get(suffix, "mpeg4")
    stream = out.add_stream(codec, rate=25 if codec == "mpeg2video" else RATE)
    stream.width = stream.height = 64
    stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    stream.codec_context.gop_size = 1
    return stream


def _sound_stream(out: Any, codec: str, rate: int, layout: str) -> Any:
    stream = out.add_stream(codec, rate=rate)
    stream.codec_context.layout, stream.codec_context.options = layout, {"strict": "-2"}
    if not codec.startswith(("pcm_", "flac")):
        stream.codec_context.bit_rate = 128_000
    return stream


def _pictures(stream: Any, start: float) -> Iterator[tuple[float, Any]]:
    steps = int(stream.average_rate or RATE) // RATE or 1
    rate = RATE * steps if steps == 1 else int(stream.average_rate)
    for number in range(PICTURES * rate // RATE):
        white = int(number * RATE / rate + 1e-6) in FLASHES
        image = np.full((64, 64, 3), 255 if white else 0, np.uint8)
        frame: Any = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = round(start * rate) + number, Fraction(1, rate)
        for packet in stream.encode(frame):
            yield start + number / rate, packet
    for packet in stream.encode(None):
        yield start + PICTURES / RATE, packet


def wave(channels: int, rate: int, begin: float, end: float) -> np.ndarray:
    """int16 (channels, samples): the tones between two times from the first picture."""
    times = np.arange(round(begin * rate), round(end * rate)) / rate
    heard = np.random.default_rng(round(abs(begin) * 1000)).normal(
        0, 50, (channels, len(times))
    )  # no packet is another
    for channel in range(channels):
        for flash in FLASHES:
            since = times - flash / RATE - channel * APART
            heard[channel] += np.where((since >= 0) & (since < TONE), np.sin(since * 2 * np.pi * 100) * 16000, 0)
    return heard.astype(np.int16)


def _sound(
    stream: Any, layout: str, rate: int, start: float, zero: float, hole: tuple[float, float] | None
) -> Iterator[tuple[float, Any]]:
    channels, end = len(av.AudioLayout(layout).channels), PICTURES / RATE
    size, first = rate // 20, start - zero
    for begin in np.arange(first, end - 1e-6, 0.05):
        if hole and hole[0] <= begin < hole[1]:
            continue
        samples = np.ascontiguousarray(wave(channels, rate, begin, begin + 0.05).T[:size].reshape(1, -1))
        frame: Any = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, round((begin + zero) * rate), Fraction(1, rate)
        for packet in stream.encode(frame):
            yield _time(packet), packet
    for packet in stream.encode(None):
        yield _time(packet), packet


def _time(packet: Any) -> float:
    return float(packet.pts * packet.time_base)


def flashes(path: Path) -> tuple[list[float], float]:
    """When white pictures begin, and the time of the first picture in the file's own time."""
    times, before = list[float](), False
    with av.open(str(path)) as container:
        first = None
        for frame in container.decode(video=0):
            first = frame.time if first is None else first
            white = frame.to_ndarray(format="gray").mean() > 128
            if white and not before:
                times.append(frame.time - first)
            before = white
    assert first is not None
    return times, first


def tones(path: Path, track: int = 0) -> dict[str, list[float]]:
    """When tones begin, for each channel by its name; of a file in one set-up."""
    first = flashes(path)[1]
    heard: dict[str, list[float]] = {}
    last: dict[str, float] = {}
    with av.open(str(path)) as container:
        resampler: Any = None
        for frame in container.decode(container.streams.audio[track]):
            # Packed: the planes of 8 channels in a row each cannot be read with PyAV.
            resampler = resampler or av.AudioResampler(format="flt", layout=frame.layout, rate=frame.sample_rate)
            names = [channel.name for channel in frame.layout.channels]
            for part in resampler.resample(frame):
                samples = part.to_ndarray().reshape(-1, len(names)).T
                for name, line in zip(names, samples, strict=True):
                    for place in np.flatnonzero(np.abs(line) > 0.1):
                        time = frame.time + place / frame.sample_rate - first
                        if time - last.get(name, -1.0) > 0.2:
                            heard.setdefault(name, []).append(time)
                        last[name] = time
    return heard


def seconds_of_sound(path: Path, track: int = 0) -> float:
    """From the first to the last sample that is decoded."""
    with av.open(str(path)) as container:
        frames = list(container.decode(container.streams.audio[track]))
    return frames[-1].time + frames[-1].samples / frames[-1].sample_rate - frames[0].time
