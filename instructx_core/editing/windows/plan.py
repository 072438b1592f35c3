"""Which frames each window edits: pure arithmetic, first step of a long edit (paper A.5).

A window is F = 4n+1 frames and is handed its first `overlap` frames (one, as in the paper) by the window before it; for
smooth joins both edit the frame behind them too. Every frame of the clip is new in exactly one window. The last two
windows share what is left, so that none is short; only the very last one may be padded to 4n+1 (and is trimmed back).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ...errors import InputError
from ...fields import check_seed
from ...geometry import pad_frames

SECONDS = 5  # length of a window where none is given (paper A.5)
SMOOTH, PLAIN = JOINS = ("smooth", "plain")  # handed over frames are kept and the step is faded out, or paper A.5 as is
SMOOTH_OVERLAP = 1  # frames that both windows of a smooth join edit


@dataclass(frozen=True, slots=True)
class Window:
    """Frames [start, stop) of the clip. The first `shared` of them belong to the window before, which hands over the
    first `head_frames` of those, edited; the rest of them both edit, and the step between the two shows there."""

    index: int
    start: int
    stop: int
    shared: int
    head_frames: int

    @property
    def frames(self) -> int:
        return self.stop - self.start

    @property
    def first_new(self) -> int:
        """Number in the clip of the first frame this window adds to the result."""
        return self.start + self.shared

    @property
    def first_source(self) -> int:
        """Number in the clip of the first frame that it takes from the source."""
        return self.start + self.head_frames

    def pinned(self, stride: int = 4) -> int:
        """Latent frames at its start that hold handed over frames only."""
        return (self.head_frames - 1) // stride + 1


def check_window(size: int, overlap: int, stride: int = 4) -> None:
    """Raises InputError unless size = stride*n + 1 frames with n >= 1 and 1 <= overlap <= (size - 1) / 2."""
    if size < stride + 1 or (size - 1) % stride:
        fix = max(pad_frames(max(size, 1), stride), stride + 1)
        raise InputError(f"a window of {size} frames is not {stride}n+1; use {fix}")
    if not 1 <= overlap <= (size - 1) // 2:
        raise InputError(
            f"an overlap of {overlap} frames does not fit a window of {size}; use 1 (the paper's) to {(size - 1) // 2}"
        )


def plan_windows(total: int, size: int, overlap: int = 1, stride: int = 4, joins: str = PLAIN) -> tuple[Window, ...]:
    """Windows that cover frames 0..total-1, at most `size` frames each, `overlap` frames handed from one to the next.

    All but the last have stride*n + 1 frames. joins: "smooth", neighbours share one more frame, or "plain". Raises
    InputError for total < 1 or a window check_window refuses.
    """
    check_window(size, overlap, stride)
    if total < 1:
        raise InputError(f"the clip has {total} frames; it needs at least 1")
    windows: list[Window] = []
    start, common = 0, overlap + (SMOOTH_OVERLAP if joins == SMOOTH else 0)
    while True:
        left = total - start
        shared, head_frames = (common, overlap) if windows else (0, 0)
        if left > 2 * size - common:
            length = size
        elif left > size:  # exactly two windows remain: halves, the first of them on the grid of the VAE
            length = min(size, pad_frames((left + common + 1) // 2, stride))
        else:
            return (*windows, Window(len(windows), start, total, shared, head_frames))
        windows.append(Window(len(windows), start, start + length, shared, head_frames))
        start += length - common


def window_frames(fps: Fraction | float, longest: int, seconds: float = SECONDS, stride: int = 4) -> int:
    """Frames of a window of `seconds` at `fps` Hz, down to stride*n + 1, at most `longest` (the model's own length).

    Raises InputError where that is less than stride + 1 frames.
    """
    wanted = min(int(seconds * fps + 1e-6), longest)
    size = (wanted - 1) // stride * stride + 1
    if size < stride + 1:
        raise InputError(
            f"{seconds:g} s at {float(fps):g} fps are {wanted} frames; a window needs {stride + 1} or more"
        )
    return size


def window_seed(seed: int, index: int) -> int:
    """Seed of the noise of window `index`: the job's own seed in every window.

    Equal noise keeps free details (texture, shading) alike from window to window, and a window can be repeated alone.
    """
    check_seed(seed)
    if index < 0:
        raise InputError(f"window {index} does not exist; windows count from 0")
    return seed
