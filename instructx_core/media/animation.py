"""Animations as clips: GIF, WebP, PNG and AVIF through Pillow, each picture for the time that the file gives it.

Beside stream.py: an animation is scanned as a clip is, and its frames go the same way. Legend: times in seconds.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from PIL import Image

from ..errors import InputError
from .clip.container import open_container
from .clip.timing import NO_RATES, FrameTime, constant_rate
from .clip.video import FrameReader
from .images import srgb_and_alpha
from .stream import ClipScan, gather_frames

_CLEARS = re.compile(rb"!\xf9\x04[\x08-\x0b]")  # a picture that is cleared to the background when its time is over
_SHORTEST, _USUAL = 0.011, 0.1  # browsers show a picture with no time, or too short a one, for a tenth of a second


class OpenAnimation:
    """An animation that is open and not decoded yet. Closed at the end of a `with` block."""

    is_video = True

    def __init__(self, path: Path, image: Image.Image) -> None:
        self.path, self.image = path, image

    def __enter__(self) -> OpenAnimation:
        return self

    def __exit__(self, *_: object) -> None:
        self.image.close()

    def scan(self, partial: bool = False, max_frames: int | None = None) -> ClipScan:
        """Decode it, once. Arguments and errors as media.files.read_media."""
        path, reader, notes = self.path, FrameReader(self.path), list[str]()
        times, kept = gather_frames(path, _pictures(path, self.image, notes, partial), reader, max_frames)
        timing = constant_rate(path, times, NO_RATES, reader.notes)
        return ClipScan(
            path=path,
            size=reader.size,
            fps=timing.fps,
            picked=timing.picked,
            audio=None,
            pixel_aspect=Fraction(1),
            notes=(f"an animation ({self.image.format}), played once", *notes, *reader.notes),
            decode=functools.partial(_decode_again, path),
            color=reader.colour,
            kept=kept,
        )


def _decode_again(path: Path) -> Iterator[Any]:
    with Image.open(path) as image:
        for frame, _ in _pictures(path, image, [], partial=True):
            yield frame


def _pictures(path: Path, image: Image.Image, notes: list[str], partial: bool) -> Iterator[tuple[Any, FrameTime]]:
    """(picture as a frame of PyAV, when it is shown). partial, notes: as in container.decode_frames."""
    first = 1 if image.info.get("default_image") else 0  # of a PNG: what is shown where animations are not
    start, untimed, cleared = 0.0, 0, _alpha_where_cleared(path, image)
    for number in range(first, image.n_frames):  # type: ignore[attr-defined]
        picture_notes = notes if number == first else list[str]()  # once of all
        try:
            image.seek(number)
            plain, alpha_HW = srgb_and_alpha(path, image, picture_notes)
            alpha_HW = alpha_HW if cleared is None else next(cleared, alpha_HW)
        except (InputError, EOFError, OSError, SyntaxError) as error:
            if not partial or number == first:
                raise InputError(
                    f"{path}: damaged at frame {number} ({error}); use --partial for those before"
                ) from None
            notes.append(f"damaged at frame {number} ({error}): only the frames before are used")
            return
        colour_HWC = np.array(plain)
        if alpha_HW is None:
            frame: Any = av.VideoFrame.from_ndarray(colour_HWC, format="rgb24")
        else:
            frame = av.VideoFrame.from_ndarray(np.dstack([colour_HWC, alpha_HW]), format="rgba")
        seconds = image.info.get("duration", 0) / 1000
        untimed += seconds < _SHORTEST
        seconds = seconds if seconds >= _SHORTEST else _USUAL
        yield frame, FrameTime(start, seconds)
        start += seconds
    if untimed:
        notes.append(f"{untimed} pictures without a time are shown for {_USUAL} s, as browsers do")


def _alpha_where_cleared(path: Path, image: Image.Image) -> Iterator[np.ndarray] | None:
    """(H, W) alpha of each picture of a GIF that clears one before the next: where that had a transparent colour FFmpeg
    shows nothing there, as browsers do, Pillow now and then its background. None for all others."""
    if image.format != "GIF" or _CLEARS.search(path.read_bytes()) is None:
        return None

    def decoded() -> Iterator[np.ndarray]:
        with contextlib.suppress(av.error.FFmpegError), open_container(path, "gif") as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgba")[..., 3]

    return decoded()
