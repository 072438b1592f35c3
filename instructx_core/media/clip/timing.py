"""When the frames of a clip are shown: one constant rate for all of them, and whether the file was cut off.

Part of reading a clip, once its frames are decoded. A variable rate becomes constant by repeating or dropping whole
frames, each shown within half a frame of its time; what is done to time, or not said by the file, is noted.
Legend: N frames; times in seconds, fps in Hz.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from ...errors import InputError

_USUAL = [(24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (48, 1), (50, 1), (60000, 1001), (60, 1), (120, 1)]
USUAL = tuple(Fraction(*rate) for rate in _USUAL)
FASTEST = 999  # fps that write_frames takes
LATE = 0.02  # seconds by which a frame of a constant rate may be off; more at a low rate is a jitter to be noted
RAW = ("h264", "hevc")  # formats without time stamps
MOST_LOST = 0.02  # part of the frames that a constant rate may drop
LONGEST_STEP = 3600.0


class FrameTime(NamedTuple):
    """When a decoded frame is shown. start: NaN where the file does not say; duration: 0 where it does not."""

    start: float
    duration: float


class Timing(NamedTuple):
    """picked: number of the decoded frame behind each frame at a constant rate. start: of the first one."""

    picked: Sequence[int]
    fps: Fraction
    start: float

    @property
    def length(self) -> float:
        return float(len(self.picked) / self.fps)


class Rates(NamedTuple):
    """What a file says of its rate. tags: of the container, FFmpeg's guesses among them. nominal: without times."""

    tags: tuple[Fraction, ...]
    nominal: Fraction | None


NO_RATES = Rates((), None)


def rates_of(container: Any, stream: Any) -> Rates:
    """Of an open file of FFmpeg's."""
    tags = _usable(stream.average_rate, stream.guessed_rate, stream.base_rate)
    raw = container.format.name in RAW  # FFmpeg makes up their tags
    return Rates(tags, next(iter(_usable(stream.codec_context.framerate) + (() if raw else tags)), None))


def _usable(*rates: Fraction | None) -> tuple[Fraction, ...]:
    return tuple(Fraction(rate) for rate in rates if rate and 0 < rate <= FASTEST)


def constant_rate(path: Path, times: Sequence[FrameTime], rates: Rates, notes: list[str]) -> Timing:
    """All frames where their steps are equal, else some repeated or dropped. Raises InputError for broken times."""
    stamp_N, hold = np.array([each.start for each in times]), times[-1].duration
    if np.isnan(stamp_N).all():
        if rates.nominal is None:
            notes.append("the file gives no frame rate; 25 fps assumed: put it into an .mp4 first if that is wrong")
        return Timing(range(len(times)), rates.nominal or Fraction(25), 0.0)
    time_N, stamped_N = _ordered(path, stamp_N, notes)
    fps = _even_rate(time_N, hold, rates.tags)
    even = fps is not None
    fps = fps or _covering_rate(time_N[stamped_N], rates.tags)
    place_N = np.arange(len(time_N)) if even else _places(time_N, fps)
    count = int(place_N[-1]) + max(1, int(hold * fps + Fraction(1, 2)))  # a picture that is held at the end is shown
    picked = (np.searchsorted(place_N, np.arange(count), side="right") - 1).tolist()
    if even and count == len(times):
        picked = range(count)
    elif even:
        notes.append(f"the last picture is held for {hold:.2f} s, as the file says")
    else:
        used = len(set(picked))
        notes.append(
            f"variable frame rate made constant at {float(fps):.3f} fps: {len(times)} -> {count} frames "
            f"({count - used} repeated, {len(times) - used} dropped)"
        )
    return Timing(picked, fps, float(time_N[0]))


def _ordered(path: Path, stamp_N: np.ndarray, notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(times that go forward, which of them the file stamped): a missing or equal one lies between its neighbours."""
    known = np.flatnonzero(~np.isnan(stamp_N))
    step = np.diff(stamp_N[known])
    for worst in (step.argmin(), step.argmax()) if len(step) else ():
        if not -1.0 < step[worst] < LONGEST_STEP:
            raise InputError(
                f"{path}: its clock jumps by {step[worst]:+.1f} s at frame {known[worst + 1]}, as where several "
                "recordings lie in one file; cut it there, or export it again"
            )
    # H.264 in AVI has the times of its packets, a few frames out of order and some almost equal; a decoder hands frames
    # out in their order.
    equal = 0.1 * float(np.median(np.abs(step))) if (step < 0).any() else 0.0
    time = np.sort(stamp_N[known])
    new = np.diff(time, prepend=-np.inf) > equal
    time, known = time[new], known[new]
    number_N, first, last = np.arange(len(stamp_N)), known[0], known[-1]
    stamped_N = np.isin(number_N, known)
    mean = (time[-1] - time[0]) / (last - first) if last > first else 0.04
    time_N = np.interp(number_N, known, time)
    time_N += mean * (np.minimum(number_N - first, 0) + np.maximum(number_N - last, 0))
    if not stamped_N.all():
        notes.append(
            f"{(~stamped_N).sum()} of {len(stamped_N)} frames have no time of their own: put between their neighbours"
        )
    return time_N, stamped_N


def _places(time_N: np.ndarray, fps: Fraction) -> np.ndarray:
    """Where each frame lies at a constant rate, within half a frame."""
    return np.floor((time_N - time_N[0]) * float(fps) + 0.5).astype(np.int64)


def _even_rate(time_N: np.ndarray, hold: float, tags: Sequence[Fraction]) -> Fraction | None:
    """The rate of frames in equal steps, None for others."""
    if len(time_N) == 1:
        return next(iter(tags), None) or (Fraction(1 / hold).limit_denominator(1001) if hold else Fraction(25))
    measured = (len(time_N) - 1) / (time_N[-1] - time_N[0])
    # Tags are exact (30000/1001) where measured times are rounded, and may be wrong where they are far from them.
    near = [rate for rates in (tags, USUAL) for rate in sorted(rates, key=lambda r: abs(r - measured))]
    for fps in (*near, Fraction(measured).limit_denominator(1001)):
        late_N = np.abs((time_N - time_N[0]) * float(fps) - np.arange(len(time_N)))
        rounding = min(0.001 * fps, 0.2)  # of a frame: containers may round times to milliseconds
        if fps <= FASTEST and late_N.max() <= min(0.25, LATE * fps) + rounding:
            return fps
    return None


def _covering_rate(time_N: np.ndarray, tags: Sequence[Fraction]) -> Fraction:
    """The slowest rate that drops next to none of the frames, which come in unequal steps."""
    short = np.quantile(np.diff(time_N), (0.0, 0.02, 0.1, 0.5))
    measured = [Fraction(1 / step).limit_denominator(1001) for step in short if step * FASTEST > 1]
    rates = sorted({*tags, *USUAL, *measured, Fraction(FASTEST)})
    lost = {fps: 1 - len(np.unique(_places(time_N, fps))) / len(time_N) for fps in rates}
    fitting = [fps for fps in rates if lost[fps] <= MOST_LOST] or [Fraction(FASTEST)]
    # Of rates that are almost the same, such as 29.97 and 30, the one that most of the frames keep time with.
    near = [fps for fps in fitting if fps <= fitting[0] * 1.03]
    return max(near, key=lambda fps: abs(np.exp(2j * np.pi * float(fps) * (time_N - time_N[0])).sum()))


def check_end(path: Path, container: Any, stream: Any, timing: Timing, partial: bool, notes: list[str]) -> None:
    """A file that was cut off (a broken download) often decodes without any error, only shorter.

    Raises InputError unless partial; only notes it where next to nothing is missing, or the promised length may be
    that of the sound.
    """
    promised, sure = _promised_seconds(container, stream, timing.start)
    missing = promised - timing.length
    found = f"the file promises {promised:.1f} s but {timing.length:.1f} s could be read"
    if missing > max(0.5, promised / 20):
        if sure and not partial:
            raise InputError(f"{path}: cut off, {found}; get the whole file, or use --partial to edit what is there")
        notes.append(f"{found}: it may be cut off")
    elif sure and missing > max(1.5 / timing.fps, 0.05):
        notes.append(f"the last {missing:.2f} s of its {promised:.2f} s hold no picture: it may be cut off")


def _promised_seconds(container: Any, stream: Any, start: float) -> tuple[float, bool]:
    """How long the file says its pictures are, and whether that is surely not the length of its sound."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base), True
    if container.duration is None:
        return 0.0, False
    whole = container.duration / av.time_base
    tag = re.match(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
    if tag is not None:  # Matroska: where a track ends; one that was kept from a longer file is no promise
        end = int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3])
        if end <= whole + 0.1:
            return end - start, True
    return whole, len(container.streams) == 1
