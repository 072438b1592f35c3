"""Clips as streams: what a clip is, and its frames one by one, so that memory does not grow with the clip's length.

Reading of clips comes together here. An open clip is scanned: decoded, not converted, so that damage, a change of size
and the exact number of frames are known before hours of sampling: what a container counts is wrong where packets are
hidden, cut or lost. `clip_frames` gives the pictures: from the frames that the scan kept, or, of a clip too large for
that, by decoding it a second time, which is the price of constant memory.
Legend: F frames, H W pixels, 3 RGB; times in seconds, fps in Hz.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .base import Media, Transform
from .clip.container import decode_frames, open_container
from .clip.timing import FrameTime, check_end, constant_rate, rates_of
from .clip.tracks import about_left_out, sounds_of, video_track
from .clip.video import FrameReader
from .sound.source import AudioSource
from .sound.tracks import SoundScan

KEPT_BYTES = 512 << 20  # of decoded frames, in the clip's own pixel format: 121 frames of 1080p are 376 MB


@dataclass(frozen=True, slots=True, eq=False)
class ClipScan:
    """A clip without its pixels. picked: number of the decoded frame behind each frame of the clip (constant rate).

    size, color, fps, audio, pixel_aspect, notes: as in media.Media. kept: every decoded frame as PyAV gives it, where
    all of them take no more than KEPT_BYTES; else none. Who reads them takes them: memory is free then. decode: gives
    them again.
    """

    path: Path
    size: tuple[int, int]
    fps: Fraction
    picked: Sequence[int]
    audio: AudioSource | None
    pixel_aspect: Fraction
    notes: tuple[str, ...]
    decode: Callable[[], Iterator[Any]] = field(repr=False)
    color: str = ""
    kept: list[Any] = field(default_factory=list, repr=False)

    @property
    def frames(self) -> int:
        return len(self.picked)


class OpenClip:
    """A clip that is open and not decoded yet. Closed at the end of a `with` block."""

    is_video = True

    def __init__(self, path: Path) -> None:
        """Raises InputError for a file that cannot be read or has no pictures."""
        self.path, self.container = path, open_container(path)
        try:
            self.stream = video_track(path, self.container)
        except InputError:
            self.container.close()
            raise

    def __enter__(self) -> OpenClip:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def scan(self, partial: bool = False, max_frames: int | None = None) -> ClipScan:
        """Decode it, once. Arguments and errors as media.files.read_media."""
        path, reader = self.path, FrameReader(self.path)
        sound = SoundScan(sounds_of(self.container, self.stream))
        frames = decode_frames(path, self.container, reader.notes if partial else None, sound.listeners)
        times, kept = gather_frames(path, frames, reader, max_frames)
        timing = constant_rate(path, times, rates_of(self.container, self.stream), reader.notes)
        check_end(path, self.container, self.stream, timing, partial, reader.notes)
        audio = sound.result(path, timing.start, timing.length, reader.notes)
        aspect = reader.pixel_aspect(self.stream)
        return ClipScan(
            path=path,
            size=reader.size,
            fps=timing.fps,
            picked=timing.picked,
            audio=audio,
            pixel_aspect=aspect,
            notes=(*about_left_out(self.container, self.stream), *reader.notes),
            decode=functools.partial(_decode_again, path),
            color=reader.colour,
            kept=kept,
        )


def gather_frames(
    path: Path, frames: Iterable[tuple[Any, FrameTime]], reader: FrameReader, max_frames: int | None
) -> tuple[list[FrameTime], list[Any]]:
    """(time of each frame, the frames where they take no more than KEPT_BYTES) of a clip that is decoded."""
    times, kept, size = list[FrameTime](), list[Any](), 0
    for frame, when in frames:
        if len(times) == max_frames:
            raise InputError(f"{path}: has more than {max_frames} frames; cut it to {max_frames} or fewer")
        reader.check(frame)
        times.append(when)
        size += sum(plane.buffer_size for plane in frame.planes)
        if size <= KEPT_BYTES:
            kept.append(frame)
        else:
            kept.clear()
    return times, kept


def _decode_again(path: Path) -> Iterator[Any]:
    with open_container(path) as container:
        for frame, _ in decode_frames(path, container):
            yield frame


def scan_clip(path: str | Path, partial: bool = False) -> ClipScan:
    """Decode a clip once and keep only what it says about itself. Arguments and errors as media.files.read_media."""
    with OpenClip(Path(path)) as clip:
        return clip.scan(partial)


def clip_frames(scan: ClipScan, transform: Transform | None = None, start: int = 0) -> Iterator[np.ndarray]:
    """Frames start, start + 1, ... of the scanned clip: uint8 sRGB (H, W, 3), upright, after `transform`.

    Only one lies in memory. Frames before `start` are decoded, which the format needs, but not converted.
    """
    reader, position = FrameReader(scan.path), start
    for number, frame in enumerate(_decoded_frames(scan)):
        colour = reader.check(frame)
        picture = None
        while position < scan.frames and scan.picked[position] == number:
            if picture is None:
                picture = reader.upright(frame, colour)
                picture = picture if transform is None else transform(picture)
            position += 1
            yield picture
        if position == scan.frames:
            return


def _decoded_frames(scan: ClipScan) -> Iterator[Any]:
    if scan.kept:
        kept = scan.kept[::-1]
        scan.kept.clear()
        while kept:
            yield kept.pop()
        return
    yield from scan.decode()


def whole_clip(scan: ClipScan, transform: Transform | None = None) -> Media:
    """All frames of a scanned clip in memory."""
    pictures = clip_frames(scan, transform)
    first_HWC = next(pictures)
    frames_FHWC = np.empty((scan.frames, *first_HWC.shape), np.uint8)
    frames_FHWC[0] = first_HWC
    for index, picture_HWC in enumerate(pictures, start=1):
        frames_FHWC[index] = picture_HWC
    return Media(
        path=scan.path,
        frames_FHWC=frames_FHWC,
        size=scan.size,
        is_video=True,
        fps=scan.fps,
        audio=scan.audio,
        pixel_aspect=scan.pixel_aspect,
        color=scan.color,
        notes=scan.notes,
    )
