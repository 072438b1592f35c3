"""Clips as streams: frame by frame in, parts joined out, so that memory does not grow with the clip's length.

Part of the media step, for edits in windows (long_video). `scan_clip` decodes once without keeping anything: length,
frame rate and damage are known before hours of sampling. `clip_frames` decodes again, one frame at a time. Finished
parts are H.264 files of their own; `join_clips` copies their packets into one file, so nothing is encoded twice.
Legend: F frames, H W pixels, 3 RGB; times in seconds, fps in Hz.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from ..errors import InputError
from .base import AudioSource, Transform
from .encode import Sound, new_container
from .outputs import atomic_path
from .video import Look, check_end, constant_rate, decoded, find_audio, first_video_stream, open_container

REORDER = 2  # frames by which H.264 with B-frames decodes ahead of what it shows


@dataclass(frozen=True, slots=True, eq=False)
class ClipScan:
    """A clip without its pixels. picked: number of the decoded frame behind each frame of the clip (constant rate).

    size: (H, W), upright. fps, audio, pixel_aspect, notes: as in media.Media.
    """

    path: Path
    size: tuple[int, int]
    fps: Fraction
    picked: Sequence[int]
    audio: AudioSource | None
    pixel_aspect: Fraction
    notes: tuple[str, ...]

    @property
    def frames(self) -> int:
        return len(self.picked)


def scan_clip(path: str | Path, partial: bool = False) -> ClipScan:
    """Decode a clip once and keep only what it says about itself. Arguments and errors as media.read_media."""
    path = Path(path)
    look, times = Look(path, partial), list[float]()
    with open_container(path) as container:
        stream = first_video_stream(path, container)
        for frame, time in decoded(look, container, stream):
            look.check(frame)
            times.append(time)
        picked, fps = constant_rate(times, stream, look.notes)
        check_end(look, container, stream, len(picked) / fps)
        audio, aspect = find_audio(path, container, times[0]), look.pixel_aspect(stream)
    return ClipScan(path, look.size, fps, picked, audio, aspect, tuple(look.notes))


def clip_frames(scan: ClipScan, transform: Transform | None = None, start: int = 0) -> Iterator[np.ndarray]:
    """Frames start, start + 1, ... of the scanned clip: uint8 sRGB (H, W, 3), upright, after `transform`.

    Only one lies in memory. Frames before `start` are decoded, which the format needs, but not converted.
    """
    look, position = Look(scan.path), start
    with open_container(scan.path) as container:
        frames = decoded(look, container, first_video_stream(scan.path, container))
        for number, (frame, _) in enumerate(frames):
            matrix = look.check(frame)
            picture = None
            while position < scan.frames and scan.picked[position] == number:
                if picture is None:
                    picture = look.upright(frame, *matrix)
                    picture = picture if transform is None else transform(picture)
                position += 1
                yield picture
            if position == scan.frames:
                return


def join_clips(
    path: str | Path, parts: Sequence[Path], lengths: Sequence[int], fps: Fraction, audio: AudioSource | None = None
) -> tuple[str, ...]:
    """Put clips that write_frames made (same size, rate and settings, no sound) one after the other, atomically.

    lengths: frames of each part. audio: as in write_frames. Returns notes on the audio. Raises InputError when the file
    cannot be written, or a part does not hold its number of frames.
    """
    path, rate = Path(path), Fraction(fps).limit_denominator(1001)
    notes: list[str] = []
    with atomic_path(path) as temporary:
        try:
            _join(temporary, path.suffix.lower(), parts, lengths, rate, audio, notes)
        except av.error.FFmpegError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}); check free space and the folder") from None
    return tuple(notes)


def _join(
    temporary: Path, suffix: str, parts: Sequence[Path], lengths: Sequence[int], rate: Fraction,
    audio: AudioSource | None, notes: list[str],
) -> None:  # fmt: skip
    total = sum(lengths)
    with new_container(temporary, suffix) as out:
        with open_container(parts[0]) as first:
            target: Any = out.add_stream_from_template(first.streams.video[0])
        target.time_base = 1 / rate
        sound = Sound(out, suffix, audio, float(total / rate), notes)
        written = 0
        for part, length in zip(parts, lengths, strict=True):
            if _copy(part, out, target, rate, written) != length:
                raise InputError(f"{part}: does not hold its {length} frames; delete it and run the edit again")
            written += length
            sound.mux_until(float(written / rate))
        sound.finish()


def _copy(part: Path, out: Any, target: Any, rate: Fraction, offset: int) -> int:
    """Copies the packets of one part, its frames numbered from `offset`; how many there were."""
    count = 0
    with open_container(part) as container:
        for packet in container.demux(container.streams.video[0]):
            if packet.pts is None:
                continue  # the empty packet that ends a stream
            packet.pts = offset + round(packet.pts * packet.time_base * rate)
            packet.dts = offset + count - REORDER  # even steps: each part would start its own delay anew
            packet.duration, packet.time_base, packet.stream = 1, 1 / rate, target
            out.mux(packet)
            count += 1
    return count
