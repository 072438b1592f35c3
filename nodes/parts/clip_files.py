"""VIDEO wires as frames one by one, and finished windows as files: what Long Video reads and writes.

A VIDEO that is an untrimmed file is streamed by the library's own reader (rotation, colour matrix, frame rate). Any
other lies in memory already, as the host made it; then the result does as well, and its sound is handed on.
Legend: F frames, H W pixels, 3 RGB; frames are uint8 (H, W, 3), IMAGE is float [0,1] (F, H, W, 3).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...instructx_core.digests import file_digest, picture_digest
from ...instructx_core.errors import InputError
from .fitting import CROP, PAD, fit_source
from .media import clipped_notes, from_image

if TYPE_CHECKING:
    from ...instructx_core.media.sound.source import AudioSource


@dataclass(frozen=True, eq=False)
class Source:
    """A clip: number of frames, rate in Hz, and read(start) -> frames from there on, fitted to the grid where cropped.

    audio: of a file, where it is read from. sound: of a VIDEO in memory, as the host holds it.
    """

    frames: int
    fps: Fraction
    read: Callable[[int], Iterator[np.ndarray]]
    audio: AudioSource | None = None
    sound: Any = None
    in_memory: bool = False
    pixel_aspect: Fraction = Fraction(1)
    digest: str = ""  # of the file, or of the frames in memory
    notes: tuple[str, ...] = ()  # what the reader has to say of the file


def open_clip(video: Any, multiple: int, resize: str) -> Source:
    """A VIDEO as a Source. Raises InputError for another wire, or a file that cannot be read."""
    from ...instructx_core.media.stream import clip_frames, scan_clip

    if not hasattr(video, "get_components"):
        raise InputError(f"source is a {type(video).__name__}; connect a VIDEO (Create Video makes one of pictures)")

    def fit(frame_HWC: np.ndarray) -> np.ndarray:
        if resize != CROP:
            return frame_HWC
        return fit_source(torch.from_numpy(frame_HWC)[None], multiple, 1, CROP, PAD).frames_FHWC[0].numpy()

    path = _whole_file(video)
    if path is not None:
        scan = scan_clip(path)
        return Source(
            frames=scan.frames,
            fps=scan.fps,
            read=lambda start: clip_frames(scan, fit, start),
            audio=scan.audio,
            pixel_aspect=scan.pixel_aspect,
            digest=file_digest(path),
            notes=scan.notes,
        )
    parts = video.get_components()
    frames_FHWC = from_image(parts.images, "source")
    if parts.frame_rate <= 0:
        raise InputError(f"source has {float(parts.frame_rate):g} frames per second; set fps of the node that makes it")
    return Source(
        frames=len(frames_FHWC),
        fps=Fraction(parts.frame_rate),
        read=lambda start: (fit(frame_HWC.numpy()) for frame_HWC in frames_FHWC[start:]),
        sound=parts.audio,
        in_memory=True,
        digest=picture_digest(frames_FHWC.numpy()),
        notes=tuple(each.text() for each in clipped_notes({"source": parts.images})),
    )


def _whole_file(video: Any) -> Path | None:
    """The file behind a VIDEO, where it is one and none of it was cut off."""
    if type(video).__name__ != "VideoFromFile":  # get_stream_source of the others encodes all their frames
        return None
    source = video.get_stream_source()
    trimmed = any(video.get_active_trim_window()) if hasattr(video, "get_active_trim_window") else False
    return Path(source) if isinstance(source, (str, os.PathLike)) and not trimmed else None


def write_part(path: Path, frames_FHWC: np.ndarray, clip: Source) -> None:
    """Writes what one window added; H.264 of high quality, without sound."""
    from ...instructx_core.media.files import write_video

    write_video(path, frames_FHWC, clip.fps, pixel_aspect=clip.pixel_aspect)


def join_parts(path: Path, parts: Sequence[Path], lengths: Sequence[int], clip: Source) -> tuple[str, ...]:
    """Writes the windows one after the other as one clip, with the source's sound. Returns what became of the sound."""
    from ...instructx_core.media.join import join_clips

    return join_clips(path, parts, lengths, clip.fps, clip.audio)


def finish(parts: Sequence[Path], lengths: Sequence[int], clip: Source) -> tuple[Any, tuple[str, ...]]:
    """All windows as one VIDEO, a file in the host's temp folder, and what became of its sound."""
    import folder_paths
    from comfy_api.input_impl import VideoFromComponents, VideoFromFile
    from comfy_api.util import VideoComponents

    temp = Path(folder_paths.get_temp_directory())
    temp.mkdir(parents=True, exist_ok=True)
    path = temp / f"instructx_long_{uuid.uuid4().hex[:12]}.mp4"
    notes, joined = join_parts(path, parts, lengths, clip), VideoFromFile(str(path))
    if not clip.in_memory or clip.sound is None:
        return joined, notes
    images = joined.get_components().images
    return VideoFromComponents(VideoComponents(images=images, audio=clip.sound, frame_rate=clip.fps)), notes
