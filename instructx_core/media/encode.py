"""Clips out through PyAV: encode H.264 with fps, audio and colours kept.

Last part of the media step. Writes yuv420p, BT.709, limited range, tagged so; audio packets are copied, or re-encoded
to AAC where the container cannot hold them, and cut to the clip.
Legend: F frames, H W pixels, C = 3 (RGB, 0..255, sRGB); times in seconds, fps in Hz.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from ..errors import InputError
from .base import VIDEO_SUFFIXES, AudioSource
from .outputs import atomic_path, output_kind
from .video import EXACT, open_container

# Numbers of ITU-T H.273, as FFmpeg uses them: matrix, transfer and primaries; value range.
_BT709 = 1
_LIMITED = 1
# Codecs that go into the container as they are.
_REMUX = {
    ".mp4": {"aac", "mp3", "mp3float", "ac3", "eac3", "alac"},
    ".mov": {"aac", "mp3", "mp3float", "ac3", "alac", "pcm_s16le", "pcm_s24le"},
    ".mkv": {
        "aac",
        "mp3",
        "mp3float",
        "ac3",
        "eac3",
        "alac",
        "opus",
        "vorbis",
        "flac",
        "pcm_s16le",
        "pcm_s24le",
        "dts",
    },
}


def write_frames(
    path: str | Path,
    frames: Iterable[np.ndarray],
    count: int,
    size: tuple[int, int],
    fps: Fraction | float,
    audio: AudioSource | None = None,
    crf: int = 16,
    preset: str = "medium",
    pixel_aspect: Fraction = Fraction(1),
) -> tuple[str, ...]:
    """Write H.264 yuv420p, BT.709 limited range, tagged; atomic: an old file at `path` survives any failure.

    frames: `count` of them, one by one, uint8 (H, W, 3) of `size` (H, W). fps: Hz. audio: copied from its file, cut to
    the clip's length. crf: 0 (lossless) .. 51. Returns notes on the audio.
    Raises InputError: odd size, bad fps, suffix other than .mp4 .mov .mkv, no libx264; ValueError when the frames are
    not as many or as large as said.
    """
    path, (height, width) = Path(path), size
    if output_kind(path) != "video":
        raise InputError(f"{path}: a clip needs one of {', '.join(VIDEO_SUFFIXES)}; change the suffix")
    if height % 2 or width % 2:
        raise InputError(f"frames are {width}x{height}; H.264 4:2:0 needs even sides: crop or pad by one pixel")
    rate = Fraction(fps).limit_denominator(1001)
    if not 0 < rate < 1000:
        raise InputError(f"fps is {fps}; it must lie between 0 and 1000")
    if "libx264" not in av.codecs_available:
        raise InputError(
            "this PyAV has no libx264 encoder; install the wheel from PyPI: pip install --force-reinstall av"
        )
    notes: list[str] = []
    expected = _expected(frames, count, (height, width, 3))
    with atomic_path(path) as temporary:
        try:
            _encode(
                temporary, path.suffix.lower(), expected, count, size, rate, audio, crf, preset, pixel_aspect, notes
            )
        except av.error.FFmpegError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}); check free space and the folder") from None
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
    kind = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}[suffix]
    return av.open("file:" + os.path.abspath(temporary), "w", format=kind, options=options)


def _encode(
    temporary: Path, suffix: str, frames: Iterable[np.ndarray], count: int, size: tuple[int, int], rate: Fraction,
    audio: AudioSource | None, crf: int, preset: str, pixel_aspect: Fraction, notes: list[str],
) -> None:  # fmt: skip
    height, width = size
    duration = float(count / rate)
    with new_container(temporary, suffix) as out:
        # Without mbtree: with it x264 now and then gave another file for the same frames (2 of 700 clips of 32x32).
        options = {"crf": str(crf), "preset": preset, "mbtree": "0"}
        stream: Any = out.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.color_range, context.colorspace = _LIMITED, _BT709
        context.color_primaries, context.color_trc = _BT709, _BT709
        context.sample_aspect_ratio = pixel_aspect
        context.time_base = 1 / rate
        sound = Sound(out, suffix, audio, duration, notes)
        for index, rgb_HWC in enumerate(frames):
            out.mux(stream.encode(_to_bt709(rgb_HWC, index, rate)))
            sound.mux_until(float((index + 1) / rate))
        out.mux(stream.encode(None))
        sound.finish()


def _to_bt709(rgb_HWC: np.ndarray, index: int, rate: Fraction) -> Any:
    rgb: Any = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb_HWC), format="rgb24")
    whole = rgb.reformat(
        format="yuv444p", src_colorspace=Colorspace.ITU709, dst_colorspace=Colorspace.ITU709, interpolation=EXACT,
        src_color_range=ColorRange.JPEG, dst_color_range=ColorRange.MPEG,
    )  # fmt: skip
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
    chroma = np.rint((before + 2 * pairs[..., 0::2] + pairs[..., 1::2]) / 8).astype(np.uint8)  # halves to even: no bias
    return np.concatenate((yuv_3HW[0].ravel(), chroma.ravel())).reshape(-1, yuv_3HW.shape[2])


class Sound:
    """Feeds the audio of another file into `out` in step with the video, so that nothing piles up in the muxer."""

    def __init__(self, out: Any, suffix: str, audio: AudioSource | None, duration: float, notes: list[str]) -> None:
        self.out, self.notes, self.source = out, notes, None
        self.packets: Iterator[tuple[float, Sequence[Any]]] = iter(())
        self.waiting: tuple[float, Sequence[Any]] | None = None
        if audio is None:
            return
        self.source = open_container(audio.path)
        stream = self.source.streams[audio.stream]
        if audio.codec in _REMUX[suffix]:
            target = out.add_stream_from_template(stream)
            self.packets = self._copied(stream, target, audio.video_start, duration)
            notes.append(f"audio ({audio.codec}) copied")
        else:
            target = out.add_stream("aac", rate=stream.codec_context.sample_rate)
            target.layout = stream.codec_context.layout
            self.packets = self._encoded(stream, target, audio.video_start, duration)
            notes.append(f"audio ({audio.codec}) encoded anew as AAC: {suffix} cannot hold it")

    def _copied(self, stream: Any, target: Any, start: float, end: float) -> Iterator[tuple[float, Sequence[Any]]]:
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

    def _encoded(self, stream: Any, target: Any, start: float, end: float) -> Iterator[tuple[float, Sequence[Any]]]:
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
        while True:
            item = self.waiting or next(self.packets, None)
            if item is None or item[0] > time:
                self.waiting = item
                return
            self.waiting = None
            self.out.mux(list(item[1]))

    def finish(self) -> None:
        self.mux_until(float("inf"))
        if self.source is not None:
            self.source.close()
