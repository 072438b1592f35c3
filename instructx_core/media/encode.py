"""Clips out through PyAV: frames -> H.264 with rate, colours and sound kept.

Last part of the media step. Writes yuv420p, BT.709, limited range, tagged so; sound/ feeds the sound in.
Legend: F frames, H W pixels, C = 3 (RGB, 0..255, sRGB); times in seconds, fps in Hz.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from ..errors import InputError
from .base import VIDEO_SUFFIXES
from .clip.known import CONTAINERS
from .clip.video import SWSCALE_EXACT
from .outputs import atomic_path, not_written, output_kind
from .sound.feed import Sound
from .sound.source import AudioSource

# Numbers of ITU-T H.273, as FFmpeg uses them: matrix, transfer and primaries; value range.
_BT709 = 1
_LIMITED = 1


@dataclass(frozen=True, slots=True)
class ClipFormat:
    """What a clip to write is like. size: (H, W), even. fps: Hz.

    audio: of another file, cut to the clip's length. crf: 0 (lossless) .. 51.
    """

    size: tuple[int, int]
    fps: Fraction | float
    audio: AudioSource | None = None
    pixel_aspect: Fraction = Fraction(1)
    crf: int = 16
    preset: str = "medium"

    @property
    def rate(self) -> Fraction:
        """fps as a fraction that containers can hold."""
        return Fraction(self.fps).limit_denominator(1001)


def write_frames(path: str | Path, frames: Iterable[np.ndarray], count: int, clip: ClipFormat) -> tuple[str, ...]:
    """Write H.264 yuv420p, BT.709 limited range, tagged; atomic: an old file at `path` survives any failure.

    frames: `count` of them, one by one, uint8 (H, W, 3). Returns notes on the audio.
    Raises InputError: odd size, bad fps, suffix other than .mp4 .mov .mkv, no libx264; ValueError when the frames are
    not as many or as large as said.
    """
    path, (height, width) = Path(path), clip.size
    if output_kind(path) != "video":
        raise InputError(f"{path}: a clip needs one of {', '.join(VIDEO_SUFFIXES)}; change the suffix")
    if height % 2 or width % 2:
        raise InputError(f"frames are {width}x{height}; H.264 4:2:0 needs even sides: crop or pad by one pixel")
    if not 0 < clip.rate < 1000:
        raise InputError(f"fps is {clip.fps}; it must lie between 0 and 1000")
    if "libx264" not in av.codecs_available:
        raise InputError("this PyAV has no libx264 encoder; install its wheel: pip install --force-reinstall av")
    suffix, notes = path.suffix.lower(), list[str]()
    with atomic_path(path) as temporary:
        try:
            with new_container(temporary, suffix) as out:
                stream = _video_stream(out, clip)
                with Sound(out, suffix, clip.audio, float(count / clip.rate), notes) as sound:
                    for index, rgb_HWC in enumerate(_expected(frames, count, (height, width, 3))):
                        out.mux(stream.encode(_to_bt709(rgb_HWC, index, clip.rate)))
                        sound.mux_until(float((index + 1) / clip.rate))
                    out.mux(stream.encode(None))
                    sound.finish()
        except av.error.FFmpegError as error:
            raise not_written(path, error) from None
    return tuple(notes)


def _expected(frames: Iterable[np.ndarray], count: int, shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """The same frames; raises ValueError when they are not `count` of `shape`."""
    seen = 0
    for seen, frame_HWC in enumerate(frames, 1):
        if frame_HWC.shape != shape or frame_HWC.dtype != np.uint8:
            raise ValueError(f"frame {seen} is {frame_HWC.dtype} {frame_HWC.shape}, not uint8 {shape}")
        yield frame_HWC
    if seen != count:
        raise ValueError(f"{seen} frames came where {count} were said")


def new_container(temporary: Path, suffix: str) -> Any:
    """An open file of the format that `suffix` names, whatever the temporary file is called."""
    options = {"movflags": "+faststart"} if suffix in (".mp4", ".mov") else {}
    return av.open("file:" + os.path.abspath(temporary), "w", format=CONTAINERS[suffix], options=options)


def _video_stream(out: Any, clip: ClipFormat) -> Any:
    """A stream of `out` for H.264, tagged."""
    # Without mbtree: with it x264 now and then gave another file for the same frames (2 of 700 clips of 32x32).
    options = {"crf": str(clip.crf), "preset": clip.preset, "mbtree": "0"}
    stream: Any = out.add_stream("libx264", rate=clip.rate, options=options)
    stream.height, stream.width = clip.size
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.color_range, context.colorspace = _LIMITED, _BT709
    context.color_primaries, context.color_trc = _BT709, _BT709
    context.sample_aspect_ratio = clip.pixel_aspect
    context.time_base = 1 / clip.rate
    return stream


def _to_bt709(rgb_HWC: np.ndarray, index: int, rate: Fraction) -> Any:
    rgb: Any = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb_HWC), format="rgb24")
    whole = rgb.reformat(
        format="yuv444p",
        src_colorspace=Colorspace.ITU709,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation=SWSCALE_EXACT,
    )
    frame: Any = av.VideoFrame.from_ndarray(_subsampled(whole.to_ndarray()), format="yuv420p")
    frame.colorspace, frame.color_range = _BT709, _LIMITED
    for tag in ("color_primaries", "color_trc"):
        if hasattr(frame, tag):  # since PyAV 17; otherwise the stream's own tags are used
            setattr(frame, tag, _BT709)
    frame.pts, frame.time_base = index, 1 / rate
    return frame


def _subsampled(yuv_3HW: np.ndarray) -> np.ndarray:
    """4:4:4 planes -> 4:2:0 in PyAV's layout (H + H/2, W): chroma on the left one of two pixels, where H.264 has it.

    swscale would put it between the two, and every player then shows colours half a pixel off.
    """
    pairs = yuv_3HW[1:, 0::2].astype(np.uint16) + yuv_3HW[1:, 1::2]
    before = np.concatenate((pairs[..., :1], pairs[..., 1:-1:2]), axis=-1)
    eighths = before + 2 * pairs[..., 0::2] + pairs[..., 1::2]
    chroma = ((eighths + 3 + (eighths >> 3 & 1)) >> 3).astype(np.uint8)  # halves to even: no bias
    return np.concatenate((yuv_3HW[0].ravel(), chroma.ravel())).reshape(-1, yuv_3HW.shape[2])
