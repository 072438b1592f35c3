"""How a long clip is cut into windows and how they are joined: what the user chooses, and the windows that it gives.

Part of an edit's request. Settings are made of it once the clip was scanned and the model is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

from ...errors import InputError
from ...fields import NO_RESULT, check_fields
from .between import edited_numbers
from .plan import JOINS, SMOOTH, Window, check_window, plan_windows, window_frames

if TYPE_CHECKING:
    from ...media.stream import ClipScan

CONTEXTS = WINDOW, FIRST = ("window", "first")


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """How a long clip is edited.

    frames: length of a window, 4n+1; or seconds; neither: 5 seconds, at most the model's length. overlap: frames handed
    over from one to the next. context: "window", the MLLM sees each window's frames, or "first", it sees those of the
    first window and all windows follow what it said there. match_colour: correct colour drift (ColourMatch).
    edit_fps: edit that many frames a second and carry the edit over to those between (between.py); None: every frame.
    joins: "smooth", the frame handed over is not edited again, and the step that shows in the frame behind it, which
    both windows edit, fades out; or "plain", as in the paper.
    restart: throw away finished windows of an earlier run.
    """

    frames: int | None = None
    seconds: float | None = None
    overlap: int = 1
    context: str = WINDOW
    match_colour: bool = False
    joins: str = SMOOTH
    edit_fps: float | None = None
    restart: bool = field(default=False, metadata={NO_RESULT: True})

    def __post_init__(self) -> None:
        check_fields(self)
        if self.context not in CONTEXTS:
            raise InputError(f"context is {self.context!r}; use one of {', '.join(CONTEXTS)}")
        if self.joins not in JOINS:
            raise InputError(f"joins is {self.joins!r}; use one of {', '.join(JOINS)}")
        if self.frames is not None and self.seconds is not None:
            raise InputError(f"a window of {self.frames} frames and {self.seconds:g} s; give one of the two")
        if self.frames is not None and self.frames < 1:
            raise InputError(f"a window of {self.frames} frames; use at least 1")
        if self.seconds is not None and self.seconds <= 0:
            raise InputError(f"a window of {self.seconds:g} s; use more than 0")
        if self.edit_fps is not None and self.edit_fps <= 0:
            raise InputError(f"edit_fps is {self.edit_fps:g}; use more than 0, e.g. 16, or leave it out")
        if self.overlap < 1:
            raise InputError(f"an overlap of {self.overlap} frames; use at least 1 (the paper's)")


@dataclass(frozen=True, slots=True, eq=False)
class Windowing:
    """The frames of a clip that are edited, by their numbers, cut into windows of at most `size` of them."""

    clip: ClipScan
    options: WindowOptions
    size: int
    windows: tuple[Window, ...]
    numbers: tuple[int, ...]

    @property
    def fps(self) -> Fraction:
        """Rate of the edited frames, in Hz."""
        return edit_rate(self.clip.fps, self.options.edit_fps)


def edit_rate(fps: Fraction, edit_fps: float | None) -> Fraction:
    """Rate of the frames that are edited, in Hz: that of the clip, where no lower one is asked for."""
    return fps if edit_fps is None or edit_fps >= fps else Fraction(edit_fps).limit_denominator(1000)


class ClipLength(Protocol):
    """A clip, as far as the length of its windows goes."""

    @property
    def frames(self) -> int: ...

    @property
    def fps(self) -> Fraction: ...


def window_size(clip: ClipLength, options: WindowOptions, longest: int, stride: int) -> int:
    """Edited frames of a window: as asked, else 5 seconds, at most `longest`. See cut_into_windows."""
    rate = edit_rate(clip.fps, options.edit_fps)
    if options.seconds is not None:
        count = len(edited_numbers(clip.frames, clip.fps, options.edit_fps))
        size = window_frames(rate, max(count, stride + 1), options.seconds, stride)
    else:
        size = window_frames(rate, longest, stride=stride) if options.frames is None else options.frames
    check_window(size, options.overlap, stride)
    return size


def cut_into_windows(clip: ClipScan, options: WindowOptions, longest: int, stride: int) -> Windowing:
    """longest: frames, the model's own length. stride: frames of a latent frame.

    Raises InputError for options that do not fit the clip or each other.
    """
    numbers = edited_numbers(clip.frames, clip.fps, options.edit_fps)
    size = window_size(clip, options, longest, stride)
    windows = plan_windows(len(numbers), size, options.overlap, stride, options.joins)
    return Windowing(clip, options, size, windows, numbers)
