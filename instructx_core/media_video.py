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

from .errors import InputError
from .media import VIDEO_SUFFIXES, AudioSource, Media, Transform, atomic_path, check_frames, output_kind

# Playlists and network protocols are shut out: a media file must never make the program open something else.
_OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,matroska,avi,mpegts,mpeg,flv,ogg,asf,mxf,h264,hevc,ivf,m4v",
}
# swscale: BICUBIC, FULL_CHR_H_INT, FULL_CHR_H_INP, ACCURATE_RND, BITEXACT; as numbers, older PyAV does not name them.
# Plain bilinear is off by up to 3/255 on solid colours, this by 1/255 (measured in the tests).
_EXACT = 4 | 0x2000 | 0x4000 | 0x40000 | 0x80000
# Numbers of ITU-T H.273, as FFmpeg uses them: matrix, transfer, primaries.
_MATRIX = {1: ("bt709", Colorspace.ITU709), 5: ("bt601", Colorspace.ITU601), 6: ("bt601", Colorspace.ITU601),
           4: ("fcc", Colorspace.FCC), 7: ("smpte240m", Colorspace.SMPTE240M)}  # fmt: skip
_HDR_TRANSFER = {16: "PQ", 18: "HLG"}
_BT709 = 1
_LIMITED = 1
_FULL = 2
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


def _open(path: Path) -> Any:
    try:
        return av.open("file:" + os.path.abspath(path), options=dict(_OPEN_OPTIONS))
    except (av.error.FFmpegError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path}: cannot be read as an image or a video ({reason}); give a PNG, JPEG, MP4, MOV, MKV or WebM file"
        ) from None


def read_video(
    path: Path, transform: Transform | None = None, max_frames: int | None = None, first_only: bool = False
) -> Media:
    """Decode the first video stream; arguments and errors as media.read_media."""
    with _open(path) as container:
        if not container.streams.video:
            raise InputError(f"{path}: has no video stream (audio only?); give an image or a video")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        notes: list[str] = []
        frames, times, first = _decode(path, container, stream, transform, max_frames, first_only, notes)
        if not frames:
            raise InputError(f"{path}: holds no decodable video frame (0 frames); export the clip again")
        frames, fps = _constant_rate(frames, times, stream, notes)
        if not first_only:
            _note_truncation(container, stream, len(frames) / fps, notes)
        audio = _find_audio(path, container, times[0])
        aspect = Fraction(stream.codec_context.sample_aspect_ratio or 1) or Fraction(1)
    rotation, size, color = first
    if aspect != 1:
        notes.append(f"pixels are not square ({aspect}); the result keeps that")
        aspect = 1 / aspect if rotation % 180 else aspect
    return Media(
        path=path, frames_FHWC=_stack(frames), size=size, is_video=True, fps=fps, audio=audio, rotation=rotation,
        pixel_aspect=aspect, color=color, notes=tuple(notes),
    )  # fmt: skip


def _stack(frames: list[np.ndarray]) -> np.ndarray:
    """np.stack that frees each frame as it is copied: the clip lies in memory once, not twice."""
    frames_FHWC = np.empty((len(frames), *frames[0].shape), np.uint8)
    for index in range(len(frames)):
        frames_FHWC[index] = frames[index]
        frames[index] = frames_FHWC[index]
    return frames_FHWC


def _decode(
    path: Path,
    container: Any,
    stream: Any,
    transform: Transform | None,
    max_frames: int | None,
    first_only: bool,
    notes: list[str],
) -> tuple[list[np.ndarray], list[float], tuple[int, tuple[int, int], str]]:
    frames: list[np.ndarray] = []
    times: list[float] = []
    rotation, size, color = 0, (0, 0), ""
    try:
        for frame in container.decode(stream):
            if max_frames is not None and len(frames) == max_frames:
                raise InputError(f"{path}: has more than {max_frames} frames; cut it to {max_frames} or fewer")
            matrix, value_range, label = _color_of(path, frame)
            if not frames:
                rotation, color = int(getattr(frame, "rotation", 0)) % 360, label
                _first_frame_notes(path, frame, rotation, label, notes)
            rgb_HWC = frame.reformat(
                format="rgb24", src_colorspace=matrix, dst_colorspace=matrix, interpolation=_EXACT,
                src_color_range=value_range, dst_color_range=ColorRange.JPEG,
            ).to_ndarray()  # fmt: skip
            # FFmpeg counts the rotation anticlockwise, as numpy does.
            rgb_HWC = np.ascontiguousarray(np.rot90(rgb_HWC, rotation // 90)) if rotation else rgb_HWC
            if not frames:
                size = (rgb_HWC.shape[0], rgb_HWC.shape[1])
            elif rgb_HWC.shape[:2] != size:
                raise InputError(
                    f"{path}: its size changes from {size[1]}x{size[0]} to {rgb_HWC.shape[1]}x{rgb_HWC.shape[0]} "
                    f"at frame {len(frames)}; export it at one size"
                )
            frames.append(rgb_HWC if transform is None else transform(rgb_HWC))
            times.append(float(frame.time) if frame.time is not None else float("nan"))
            if first_only:
                break
    except av.error.FFmpegError as error:
        raise InputError(
            f"{path}: damaged at frame {len(frames)} ({error.strerror}); export the clip again or cut it there"
        ) from None
    return frames, times, (rotation, size, color)


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


def _constant_rate(
    frames: list[np.ndarray], times: list[float], stream: Any, notes: list[str]
) -> tuple[list[np.ndarray], Fraction]:
    """Frames at a constant rate: as they are when their steps are equal, else whole frames repeated or dropped."""
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
    return [frames[i] for i in picked], fps


def _note_truncation(container: Any, stream: Any, seconds: Fraction, notes: list[str]) -> None:
    """A file that was cut off (a broken download) often decodes without any error, only shorter."""
    promised = Fraction(0)
    if stream.duration is not None and stream.time_base is not None:
        promised = stream.duration * stream.time_base
    elif container.duration is not None:
        promised = Fraction(container.duration, av.time_base)
    if promised - seconds > max(Fraction(1, 2), promised / 20):
        notes.append(
            f"the file promises {float(promised):.1f} s but {float(seconds):.1f} s could be read: it may be cut off"
        )


def _find_audio(path: Path, container: Any, video_start: float) -> AudioSource | None:
    if not container.streams.audio:
        return None
    stream = container.streams.audio[0]
    duration = None
    if stream.duration is not None and stream.time_base is not None:
        duration = float(stream.duration * stream.time_base)
    start = video_start if video_start == video_start else 0.0  # NaN: no timestamps
    return AudioSource(path, stream.index, stream.codec_context.name, start, duration)


def write_video(
    path: str | Path,
    frames_FHWC: np.ndarray,
    fps: Fraction | float,
    audio: AudioSource | None = None,
    crf: int = 16,
    preset: str = "medium",
    pixel_aspect: Fraction = Fraction(1),
) -> tuple[str, ...]:
    """Write H.264 yuv420p, BT.709 limited range, tagged; atomic: an old file at `path` survives any failure.

    fps: Hz. audio: copied from its file, cut to the clip's length. crf: 0 (lossless) .. 51. Returns notes on the audio.
    Raises InputError: wrong pixels, odd size, bad fps, suffix other than .mp4 .mov .mkv, no libx264.
    """
    path = Path(path)
    check_frames(frames_FHWC)
    if output_kind(path) != "video":
        raise InputError(f"{path}: a clip needs one of {', '.join(VIDEO_SUFFIXES)}; change the suffix")
    _, height, width, _ = frames_FHWC.shape
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
    with atomic_path(path) as temporary:
        try:
            _encode(temporary, path.suffix.lower(), frames_FHWC, rate, audio, crf, preset, pixel_aspect, notes)
        except av.error.FFmpegError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}); check free space and the folder") from None
    return tuple(notes)


def _encode(
    temporary: Path, suffix: str, frames_FHWC: np.ndarray, rate: Fraction, audio: AudioSource | None, crf: int,
    preset: str, pixel_aspect: Fraction, notes: list[str],
) -> None:  # fmt: skip
    _, height, width, _ = frames_FHWC.shape
    duration = float(len(frames_FHWC) / rate)
    options = {"movflags": "+faststart"} if suffix in (".mp4", ".mov") else {}
    container_format = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}[suffix]
    with av.open("file:" + os.path.abspath(temporary), "w", format=container_format, options=options) as out:
        stream: Any = out.add_stream("libx264", rate=rate, options={"crf": str(crf), "preset": preset})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.color_range, context.colorspace = _LIMITED, _BT709
        context.color_primaries, context.color_trc = _BT709, _BT709
        context.sample_aspect_ratio = pixel_aspect
        context.time_base = 1 / rate
        sound = _Sound(out, suffix, audio, duration, notes)
        for index, rgb_HWC in enumerate(frames_FHWC):
            out.mux(stream.encode(_to_bt709(rgb_HWC, index, rate)))
            sound.mux_until(float((index + 1) / rate))
        out.mux(stream.encode(None))
        sound.finish()


def _to_bt709(rgb_HWC: np.ndarray, index: int, rate: Fraction) -> Any:
    rgb: Any = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb_HWC), format="rgb24")
    frame = rgb.reformat(
        format="yuv420p", src_colorspace=Colorspace.ITU709, dst_colorspace=Colorspace.ITU709, interpolation=_EXACT,
        src_color_range=ColorRange.JPEG, dst_color_range=ColorRange.MPEG,
    )  # fmt: skip
    frame.colorspace, frame.color_range = _BT709, _LIMITED
    for tag in ("color_primaries", "color_trc"):
        if hasattr(frame, tag):  # since PyAV 17; otherwise the stream's own tags are used
            setattr(frame, tag, _BT709)
    frame.pts, frame.time_base = index, 1 / rate
    return frame


class _Sound:
    """Feeds the audio of another file into `out` in step with the video, so that nothing piles up in the muxer."""

    def __init__(self, out: Any, suffix: str, audio: AudioSource | None, duration: float, notes: list[str]) -> None:
        self.out, self.notes, self.source = out, notes, None
        self.packets: Iterator[tuple[float, Sequence[Any]]] = iter(())
        self.waiting: tuple[float, Sequence[Any]] | None = None
        if audio is None:
            return
        self.source = _open(audio.path)
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
