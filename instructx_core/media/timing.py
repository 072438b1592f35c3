"""When the frames of a clip are shown: one constant rate for all of them, and whether the file was cut off.

Part of reading a clip, once its frames are decoded. A variable rate becomes constant by repeating or dropping whole
frames, which is noted.
Legend: times in seconds, fps in Hz.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from ..errors import InputError


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


def promised_seconds(container: Any, stream: Any) -> tuple[Fraction, bool]:
    """How long the file says it is, and whether that is surely the length of its pictures, not of its sound."""
    if stream.duration is not None and stream.time_base is not None:
        return stream.duration * stream.time_base, True
    if container.duration is not None:
        return Fraction(container.duration, av.time_base), len(container.streams) == 1
    return Fraction(0), True


def check_end(path: Path, container: Any, seconds: Fraction, partial: bool, notes: list[str]) -> None:
    """A file that was cut off (a broken download) often decodes without any error, only shorter.

    Raises InputError unless partial; only notes it where the promised length may be that of the sound.
    """
    promised, sure = promised_seconds(container, container.streams.video[0])
    if promised - seconds <= max(Fraction(1, 2), promised / 20):
        return
    found = f"the file promises {float(promised):.1f} s but {float(seconds):.1f} s could be read"
    if sure and not partial:
        raise InputError(f"{path}: cut off, {found}; get the whole file, or use --partial to edit what is there")
    notes.append(f"{found}: it may be cut off")
