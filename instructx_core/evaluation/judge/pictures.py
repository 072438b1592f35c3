"""Pictures and clips -> what a judge is shown: PNG pictures, uniform frames of a clip, or the clip itself.

Place: items and outputs -> pictures -> question. What was shown (how many, which frames, which size) goes into the
transcript; the bytes do not. Shapes: frame_HWC uint8.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from ...errors import InputError
from ...media.files import open_media
from ...media.images import OpenImage
from ...media.stream import clip_frames

if TYPE_CHECKING:
    from ...media.animation import OpenAnimation
    from ...media.stream import OpenClip

MIMES = {".mp4": "video/mp4", ".mov": "video/quicktime", ".mkv": "video/x-matroska", ".webm": "video/webm"}
VideoForm = Literal["frames", "native"]
# Of the estimate of a dry run only: OpenAI counts 85 for a picture and 170 for each tile of 512x512.
TOKENS_PICTURE, TOKENS_TILE, TILE = 85, 170, 512


class Unshowable(InputError):
    """A file that is no picture or clip to show. path: which, so that an output of that kind is told from a source."""

    def __init__(self, path: Path, error: InputError) -> None:
        super().__init__(str(error))
        self.path = path


@dataclass(frozen=True, slots=True)
class ShownPicture:
    """One picture, or one clip as a file. label: what the judge is told it is, "" for nothing. size: (H, W) as sent.
    notes: what of the file is not as it was, as transparency, which is seen over white."""

    label: str
    data: bytes
    mime: str
    size: tuple[int, int]
    notes: tuple[str, ...] = ()

    def part(self) -> dict[str, Any]:
        """As a part of a chat message."""
        url = f"data:{self.mime};base64,{base64.b64encode(self.data).decode()}"
        kind = "video_url" if self.mime.startswith("video/") else "image_url"
        return {"type": kind, kind: {"url": url}}

    def note(self) -> dict[str, Any]:
        """For the transcript."""
        note = {"label": self.label, "size": list(self.size), "mime": self.mime, "bytes": len(self.data)}
        return {**note, "notes": list(self.notes)} if self.notes else note

    @property
    def tokens(self) -> int:
        height, width = self.size
        return TOKENS_PICTURE + TOKENS_TILE * (-(-height // TILE)) * (-(-width // TILE))


@dataclass(frozen=True, slots=True)
class Viewing:
    """How media are shown. frames: of a clip, uniform, first and last among them. side: the longest a side may be;
    None: as it is. video: clips as frames, or as files for a server that takes those."""

    frames: int = 8
    side: int | None = 512
    video: VideoForm = "frames"

    def __post_init__(self) -> None:
        if self.frames < 1 or (self.side is not None and self.side < 16):
            raise InputError(f"{self.frames} frames of side {self.side}; use at least 1 frame and 16 pixels")
        if self.video not in ("frames", "native"):
            raise InputError(f"video is {self.video!r}; use frames or native")

    def clip(self, path: Path, label: str) -> list[ShownPicture]:
        """Frames "label frame i/n", or the file. A picture is a clip of one frame. Raises Unshowable."""
        with _opened(path) as media:
            if isinstance(media, OpenImage):
                read = media.read()
                frames, notes = [read.frames_FHWC[0]], read.notes
            else:
                scan = media.scan()
                notes = scan.notes
                if self.video == "native":
                    return [_file(path, label, scan.size, notes)]
                picked = [scan.picked[number] for number in uniform(scan.frames, self.frames)]
                frames = list(clip_frames(dataclasses.replace(scan, picked=picked)))  # the others never lie in memory
        count = len(frames)
        shown = [png(each_HWC, f"{label} frame {n}/{count}", self.side) for n, each_HWC in enumerate(frames, 1)]
        return [dataclasses.replace(shown[0], notes=notes), *shown[1:]]

    def picture(self, path: Path, label: str, like: tuple[int, int] | None = None) -> ShownPicture:
        """One picture. like: the (H, W) that it is resized to first, as a protocol may ask. Raises Unshowable."""
        with _opened(path) as media:
            if not isinstance(media, OpenImage):
                raise InputError(f"{path}: is a clip; this benchmark is of pictures")
            read = media.read()
        frame_HWC = read.frames_FHWC[0]
        if like is not None and frame_HWC.shape[:2] != like:
            frame_HWC = np.asarray(Image.fromarray(frame_HWC).resize((like[1], like[0])))  # bicubic, Pillow's own
        return dataclasses.replace(png(frame_HWC, label, self.side), notes=read.notes)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[OpenImage | OpenAnimation | OpenClip]:
    """Raises Unshowable for whatever cannot be read of it during the block."""
    try:
        with open_media(path) as media:
            yield media
    except InputError as error:
        raise Unshowable(path, error) from None


def _file(path: Path, label: str, size: tuple[int, int], notes: tuple[str, ...]) -> ShownPicture:
    mime = MIMES.get(path.suffix.lower())
    if mime is None:
        raise InputError(f"{path}: is no clip that a server takes as a file; use --video frames")
    return ShownPicture(label, path.read_bytes(), mime, size, notes)


def uniform(count: int, wanted: int) -> list[int]:
    """Up to `wanted` of `count` frames, evenly, the first and the last among them."""
    if count <= wanted:
        return list(range(count))
    return [0] if wanted == 1 else [round(i * (count - 1) / (wanted - 1)) for i in range(wanted)]


def png(frame_HWC: np.ndarray, label: str, side: int | None) -> ShownPicture:
    """Scaled down where a side is longer, never up."""
    image = Image.fromarray(frame_HWC)
    if side is not None and max(image.size) > side:
        scale = side / max(image.size)
        image = image.resize([max(1, round(length * scale)) for length in image.size], Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return ShownPicture(label, buffer.getvalue(), "image/png", (image.height, image.width))
