"""Clips in and out through PyAV: decode to upright sRGB frames, encode H.264 with fps, audio and colours kept.

Part of the media step. Decoding applies rotation, the file's own YUV matrix and range, and turns a variable frame rate
into a constant one by repeating or dropping whole frames (reported). Encoding writes yuv420p, BT.709, limited range,
tagged so; audio packets are copied, or re-encoded to AAC where the container cannot hold them, and cut to the clip.
Legend: F frames, H W pixels, C = 3 (RGB, 0..255, sRGB); times in seconds, fps in Hz.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from ..errors import InputError
from .base import AudioSource, Media, Transform

# Playlists and network protocols are shut out: a media file must never make the program open something else.
_OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,mxf,h264,hevc,ivf,m4v",
}
# swscale: BICUBIC, FULL_CHR_H_INT, FULL_CHR_H_INP, ACCURATE_RND, BITEXACT; as numbers, older PyAV does not name them.
# Plain bilinear is off by up to 3/255 on solid colours, this by 1/255 (measured in the tests).
EXACT = 4 | 0x2000 | 0x4000 | 0x40000 | 0x80000
# Numbers of ITU-T H.273, as FFmpeg uses them: matrix, transfer, primaries.
_MATRIX = {1: ("bt709", Colorspace.ITU709), 5: ("bt601", Colorspace.ITU601), 6: ("bt601", Colorspace.ITU601),
           4: ("fcc", Colorspace.FCC), 7: ("smpte240m", Colorspace.SMPTE240M)}  # fmt: skip
_HDR_TRANSFER = {16: "PQ", 18: "HLG"}
_FULL = 2


def open_container(path: Path) -> Any:
    try:
        return av.open("file:" + os.path.abspath(path), options=dict(_OPEN_OPTIONS))
    except (av.error.FFmpegError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path}: cannot be read as an image or a video ({reason}); give a PNG, JPEG, MP4, MOV, MKV or WebM file"
        ) from None


def read_video(
    path: Path,
    transform: Transform | None = None,
    max_frames: int | None = None,
    first_only: bool = False,
    partial: bool = False,
) -> Media:
    """Decode the first video stream; arguments and errors as media.read_media."""
    with open_container(path) as container:
        stream = first_video_stream(path, container)
        look = Look(path, partial)
        frames, times = _decode(container, stream, look, transform, max_frames, first_only)
        picked, fps = constant_rate(times, stream, look.notes)
        frames = [frames[i] for i in picked]
        if not first_only:
            check_end(look, container, stream, len(picked) / fps)
        audio = find_audio(path, container, times[0])
        aspect = look.pixel_aspect(stream)
    return Media(
        path=path, frames_FHWC=_stack(frames), size=look.size, is_video=True, fps=fps, audio=audio,
        rotation=look.rotation, pixel_aspect=aspect, color=look.color, notes=tuple(look.notes),
    )  # fmt: skip


def _stack(frames: list[np.ndarray]) -> np.ndarray:
    """np.stack that frees each frame as it is copied: the clip lies in memory once, not twice."""
    frames_FHWC = np.empty((len(frames), *frames[0].shape), np.uint8)
    for index in range(len(frames)):
        frames_FHWC[index] = frames[index]
        frames[index] = frames_FHWC[index]
    return frames_FHWC


class Look:
    """What the first frame says: rotation, upright size (H, W), colour, notes. Later frames are read by it.

    partial: of a damaged file, what can be read is taken, with a note.
    """

    def __init__(self, path: Path, partial: bool = False) -> None:
        self.path, self.partial, self.notes = path, partial, list[str]()
        self.rotation, self.size, self.color, self.count = 0, (0, 0), "", 0

    def check(self, frame: Any) -> tuple[Colorspace, ColorRange]:
        """Matrix and range of one more frame. Raises InputError for HDR, transparency or a size that changes."""
        matrix, value_range, label = _color_of(self.path, frame)
        rotation = int(getattr(frame, "rotation", 0)) % 360 if not self.count else self.rotation
        size = (frame.height, frame.width) if rotation % 180 == 0 else (frame.width, frame.height)
        if not self.count:
            self.rotation, self.size, self.color = rotation, size, label
            _first_frame_notes(self.path, frame, rotation, label, self.notes)
        elif size != self.size:
            raise InputError(
                f"{self.path}: its size changes from {self.size[1]}x{self.size[0]} to {size[1]}x{size[0]} "
                f"at frame {self.count}; export it at one size"
            )
        self.count += 1
        return matrix, value_range

    def upright(self, frame: Any, matrix: Colorspace, value_range: ColorRange) -> np.ndarray:
        """One frame as upright sRGB, uint8 (H, W, 3)."""
        rgb_HWC = frame.reformat(
            format="rgb24", src_colorspace=matrix, dst_colorspace=matrix, interpolation=EXACT,
            src_color_range=value_range, dst_color_range=ColorRange.JPEG,
        ).to_ndarray()  # fmt: skip
        # FFmpeg counts the rotation anticlockwise, as numpy does.
        return np.ascontiguousarray(np.rot90(rgb_HWC, self.rotation // 90)) if self.rotation else rgb_HWC

    def pixel_aspect(self, stream: Any) -> Fraction:
        """Width / height of an upright pixel; noted where it is not 1."""
        aspect = Fraction(stream.codec_context.sample_aspect_ratio or 1) or Fraction(1)
        if aspect == 1:
            return aspect
        self.notes.append(f"pixels are not square ({aspect}); the result keeps that")
        return 1 / aspect if self.rotation % 180 else aspect


def first_video_stream(path: Path, container: Any) -> Any:
    """Raises InputError for a file without pictures."""
    if not container.streams.video:
        raise InputError(f"{path}: has no video stream (audio only?); give an image or a video")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    return stream


def decoded(look: Look, container: Any, stream: Any) -> Iterator[tuple[Any, float]]:
    """(frame as PyAV gives it, its time in seconds or NaN). Raises InputError where the file is damaged or empty."""
    path = look.path
    count = 0
    try:
        for frame in container.decode(stream):
            yield frame, float(frame.time) if frame.time is not None else float("nan")
            count += 1
    except av.error.FFmpegError as error:
        if not look.partial or not count:
            raise InputError(
                f"{path}: damaged at frame {count} ({error.strerror}); export it again, or use --partial to edit "
                "the frames before"
            ) from None
        look.notes.append(f"damaged at frame {count} ({error.strerror}): only the frames before are used")
    if not count:
        raise InputError(f"{path}: holds no decodable video frame (0 frames); export the clip again")


def _decode(
    container: Any, stream: Any, look: Look, transform: Transform | None, max_frames: int | None, first_only: bool
) -> tuple[list[np.ndarray], list[float]]:
    frames: list[np.ndarray] = []
    times: list[float] = []
    for frame, time in decoded(look, container, stream):
        if max_frames is not None and len(frames) == max_frames:
            raise InputError(f"{look.path}: has more than {max_frames} frames; cut it to {max_frames} or fewer")
        rgb_HWC = look.upright(frame, *look.check(frame))
        frames.append(rgb_HWC if transform is None else transform(rgb_HWC))
        times.append(time)
        if first_only:
            break
    return frames, times


def _first_frame_notes(path: Path, frame: Any, rotation: int, label: str, notes: list[str]) -> None:
    if rotation % 90:
        raise InputError(f"{path}: is rotated by {rotation} degrees; only multiples of 90 work: export it upright")
    if rotation:
        notes.append(f"turned by {rotation} degrees as its display matrix says")
    if "assumed" in label:
        notes.append(f"colour is not tagged; read as {label}")
    if frame.interlaced_frame:
        notes.append("interlaced; read as it is, without deinterlacing")
    if max((part.bits for part in frame.format.components), default=8) > 8:
        notes.append("more than 8 bits a channel reduced to 8")
    if any(part.is_alpha for part in frame.format.components):
        raise InputError(f"{path}: the clip has transparency ({frame.format.name}); export it without alpha")


def _color_of(path: Path, frame: Any) -> tuple[Colorspace, ColorRange, str]:
    """YUV matrix and range of a frame; untagged clips follow the players' habit: HD is BT.709, smaller is BT.601."""
    transfer = int(getattr(frame, "color_trc", 2) or 2)
    if transfer in _HDR_TRANSFER or int(frame.colorspace) in (9, 10):
        kind = _HDR_TRANSFER.get(transfer, "BT.2020")
        raise InputError(f"{path}: HDR clip ({kind}); convert it to SDR (BT.709) first, tone mapping is not built in")
    full = int(frame.color_range) == _FULL or frame.format.name.startswith("yuvj") or frame.format.is_rgb
    value_range = ColorRange.JPEG if full else ColorRange.MPEG
    label_range = "full" if full else "limited"
    if frame.format.is_rgb:
        return Colorspace.ITU709, value_range, "rgb"
    if int(frame.colorspace) in _MATRIX:
        name, matrix = _MATRIX[int(frame.colorspace)]
        return matrix, value_range, f"{name} {label_range}"
    if frame.height >= 720 or frame.width >= 1280:
        return Colorspace.ITU709, value_range, f"bt709 {label_range} (assumed, HD)"
    return Colorspace.ITU601, value_range, f"bt601 {label_range} (assumed, SD)"


def constant_rate(times: list[float], stream: Any, notes: list[str]) -> tuple[Sequence[int], Fraction]:
    """Numbers of the frames to show at a constant rate: all when steps are equal, else some repeated or dropped."""
    frames = range(len(times))
    rates = [Fraction(r) for r in (stream.average_rate, stream.guessed_rate, stream.base_rate) if r]
    steps = np.diff(np.asarray(times, np.float64))
    if not len(steps) or not (steps > 0).all():  # one frame, or no usable timestamps (NaN compares false)
        fps = next((r for r in rates if 0 < r < 1000), Fraction(0))
        if not fps:
            notes.append("the file gives no frame rate; 25 fps assumed")
        return frames, fps or Fraction(25)
    measured = len(steps) / (times[-1] - times[0])
    # Tags are exact (30000/1001) where measured times are rounded, so a tag near the measurement wins.
    near = [r for r in rates if abs(r / measured - 1) < 0.03]
    fps = min(near, key=lambda r: abs(r - measured), default=Fraction(measured)).limit_denominator(1001)
    if (np.abs(steps - np.median(steps)) <= 0.25 * np.median(steps) + 0.001).all():
        return frames, fps
    count = max(1, round((times[-1] - times[0]) * fps) + 1)
    grid = np.searchsorted(np.asarray(times), times[0] + (np.arange(count) + 0.01) / float(fps), side="right") - 1
    picked = [int(i) for i in grid]
    repeated, dropped = count - len(set(picked)), len(frames) - len(set(picked))
    notes.append(
        f"variable frame rate made constant at {float(fps):.3f} fps: {len(frames)} -> {count} frames "
        f"({repeated} repeated, {dropped} dropped)"
    )
    return picked, fps


def check_end(look: Look, container: Any, stream: Any, seconds: Fraction) -> None:
    """A file that was cut off (a broken download) often decodes without any error, only shorter.

    Raises InputError unless look.partial; only notes it where the promised length may be that of the sound.
    """
    promised, sure = Fraction(0), True
    if stream.duration is not None and stream.time_base is not None:
        promised = stream.duration * stream.time_base
    elif container.duration is not None:
        promised, sure = Fraction(container.duration, av.time_base), len(container.streams) == 1
    if promised - seconds <= max(Fraction(1, 2), promised / 20):
        return
    found = f"the file promises {float(promised):.1f} s but {float(seconds):.1f} s could be read"
    if sure and not look.partial:
        raise InputError(f"{look.path}: cut off, {found}; get the whole file, or use --partial to edit what is there")
    look.notes.append(f"{found}: it may be cut off")


def find_audio(path: Path, container: Any, video_start: float) -> AudioSource | None:
    if not container.streams.audio:
        return None
    stream = container.streams.audio[0]
    duration = None
    if stream.duration is not None and stream.time_base is not None:
        duration = float(stream.duration * stream.time_base)
    start = video_start if video_start == video_start else 0.0  # NaN: no timestamps
    return AudioSource(path, stream.index, stream.codec_context.name, start, duration)
