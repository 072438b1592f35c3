"""A picture or clip as the bytes that a browser shows: WebP, or H.264 without sound; what else the file held is gone.

Place: outputs, items -> embed -> assemble -> page. All go through the same encoders, so that in a blind study no file
tells by its format, its size or its metadata who made it. Lossless pictures and clips of crf 12 by default; `side`
scales them down. H.264 needs even sides: a clip of odd ones gets its last row or column twice.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError
from ..media.encode import ClipFormat, write_frames
from ..media.files import open_media
from ..media.images import OpenImage
from ..media.stream import ClipScan, clip_frames

LEAST_SIDE = 16


@dataclass(frozen=True, slots=True)
class Rendition:
    """side: longest side in pixels, None as it is. quality: WebP's, 100 lossless. crf: of clips, 0 lossless to 51."""

    side: int | None = None
    quality: int = 100
    crf: int = 12

    def __post_init__(self) -> None:
        if self.side is not None and self.side < LEAST_SIDE:
            raise InputError(f"side is {self.side} pixels; use at least {LEAST_SIDE}")


FULL = Rendition()
PREVIEW = Rendition(side=320, quality=80, crf=26)


@dataclass(frozen=True, slots=True)
class PageMedia:
    """Bytes for a page. kind: "image" or "video". size: (H, W) as shown. seconds: 0 for a picture."""

    kind: str
    mime: str
    data: bytes
    size: tuple[int, int]
    seconds: float = 0.0


def embed(path: Path, rendition: Rendition = FULL) -> PageMedia:
    """Decode a file and encode it for a page. Raises InputError as open_media does."""
    with open_media(path) as opened:
        if isinstance(opened, OpenImage):
            return _image(opened.read(_scaler(rendition.side)).frames_FHWC[0], rendition)
        scan = opened.scan()
    return _clip(scan, rendition)


def _scaler(side: int | None) -> Callable[[np.ndarray], np.ndarray]:
    """Scales an (H, W, 3) picture down to the longest side."""

    def scaled(frame_HWC: np.ndarray) -> np.ndarray:
        height, width = frame_HWC.shape[:2]
        if side is None or max(height, width) <= side:
            return frame_HWC
        size = max(1, round(width * side / max(height, width))), max(1, round(height * side / max(height, width)))
        return np.asarray(Image.fromarray(frame_HWC).resize(size, Image.Resampling.LANCZOS))

    return scaled


def _image(frame_HWC: np.ndarray, rendition: Rendition) -> PageMedia:
    buffer = io.BytesIO()
    lossless = rendition.quality == 100
    Image.fromarray(np.ascontiguousarray(frame_HWC)).save(
        buffer, "WEBP", lossless=lossless, quality=80 if lossless else rendition.quality, method=4
    )
    return PageMedia("image", "image/webp", buffer.getvalue(), (frame_HWC.shape[0], frame_HWC.shape[1]))


def _clip(scan: ClipScan, rendition: Rendition) -> PageMedia:
    scaled = _scaler(rendition.side)

    def even(frame_HWC: np.ndarray) -> np.ndarray:
        frame_HWC = scaled(frame_HWC)
        odd = [(0, frame_HWC.shape[0] % 2), (0, frame_HWC.shape[1] % 2), (0, 0)]
        return np.ascontiguousarray(np.pad(frame_HWC, odd, mode="edge"))

    frames = clip_frames(scan, even)
    first_HWC = next(frames)
    height, width = first_HWC.shape[:2]
    form = ClipFormat((height, width), scan.fps, pixel_aspect=scan.pixel_aspect, crf=rendition.crf, preset="veryfast")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_frames(path, chain([first_HWC], frames), scan.frames, form)
        data = path.read_bytes()
    return PageMedia("video", "video/mp4", data, (height, width), float(scan.frames / scan.fps))
