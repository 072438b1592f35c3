"""The loop of a long edit: each window's head frames are the edited tail of the window before it (paper A.5).

Between plan and whatever edits one window (the pipeline, or a ComfyUI sampler): frames come from an iterator and leave
window by window, so no more than one window lies in memory. Colour drift at a join is measured always and corrected
when asked for, and the step that is left can be faded out: not in the paper, see `ColourMatch` and `fade_out`.
Legend: F frames, H W pixels, 3 RGB; frames are uint8 sRGB, O frames of overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ...errors import InputError
from .plan import Window

# (frames of the window (F, H, W, 3) with the edited head in place, window) -> as many edited frames
EditWindow = Callable[[np.ndarray, Window], np.ndarray]

FADE = 8  # new frames over which the step at a smooth join is faded out
MIN_SPREAD = 1.0  # of 255: a channel flatter than this has no contrast to match, only its mean is moved


@dataclass(frozen=True, slots=True)
class ColourMatch:
    """y = gain * x + shift for each of R, G, B (0..255): what makes `edited` look like `wanted` in mean and spread.

    The frames compared show the same picture: the head a window was handed, and what the window made of it.
    """

    gain: tuple[float, float, float]
    shift: tuple[float, float, float]

    @classmethod
    def between(cls, edited_OHWC: np.ndarray, wanted_OHWC: np.ndarray) -> ColourMatch:
        """Per channel: gain = ratio of the standard deviations, shift moves the mean."""
        edited, wanted = (frames.reshape(-1, 3).astype(np.float64) for frames in (edited_OHWC, wanted_OHWC))
        spread, wanted_spread = edited.std(0), wanted.std(0)
        flat = (spread < MIN_SPREAD) | (wanted_spread < MIN_SPREAD)
        gain = np.where(flat, 1.0, wanted_spread / np.where(flat, 1.0, spread))
        shift = wanted.mean(0) - gain * edited.mean(0)
        return cls(tuple(gain.tolist()), tuple(shift.tolist()))

    def apply(self, frames_FHWC: np.ndarray) -> np.ndarray:
        """The frames with this correction, rounded; values beyond black and white end there, as in any picture."""
        levels = np.arange(256)[:, None] * np.array(self.gain) + np.array(self.shift)
        table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
        return np.stack([table[frames_FHWC[..., c], c] for c in range(3)], axis=-1)


def fade_out(made_FHWC: np.ndarray, head_OHWC: np.ndarray, frames: int = FADE) -> np.ndarray:
    """The frames of a window, the step from the kept head to its new frames faded out over `frames` of them.

    The step is the last frame of the head minus what the window made of it. That should not be its first frame, which
    the VAE codes alone, with other losses than the frames behind it. Linear: the last frame touched gets 1/(n+1).
    """
    shared = len(head_OHWC)
    step_HWC = head_OHWC[-1].astype(np.float32) - made_FHWC[shared - 1]
    count = min(frames, len(made_FHWC) - shared)
    share_F = 1.0 - np.arange(1, count + 1, dtype=np.float32) / (count + 1)
    faded_FHWC = made_FHWC.copy()
    mixed_FHWC = made_FHWC[shared : shared + count] + share_F[:, None, None, None] * step_HWC
    faded_FHWC[shared : shared + count] = np.clip(np.rint(mixed_FHWC), 0, 255).astype(np.uint8)
    return faded_FHWC


@dataclass(frozen=True, slots=True, eq=False)
class WindowResult:
    """What one window added. Errors and drift are in levels of 255, measured where two windows meet; 0 in window 0.

    new_FHWC: the frames first_new .. stop-1 of the clip. tail_OHWC: edited frames the next window starts from.
    join: mean |made - kept| on the frames that both windows edited, of plain joins on the handed over ones. drift: mean
    of made minus kept, R G B, before any correction.
    """

    window: Window
    new_FHWC: np.ndarray
    tail_OHWC: np.ndarray
    join: float = 0.0
    drift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    corrected: bool = False


def edit_windows(
    frames: Iterable[np.ndarray],
    windows: Sequence[Window],
    edit: EditWindow,
    *,
    match_colour: bool = False,
    fade: int = 0,
    done: int = 0,
    tail_OHWC: np.ndarray | None = None,
) -> Iterator[WindowResult]:
    """Edit the windows from number `done` on, one after the other.

    frames: source frames (H, W, 3) of the clip from windows[done].first_source on. tail_OHWC: for done > 0, the tail of
    the window before. match_colour: correct every window so that its shared frames match the kept ones. fade: new
    frames over which what then is left of the difference is faded out; for windows that share a frame that both edit.
    Raises InputError when the frames end too early, a tail is missing, or `edit` returns another shape.
    """
    source, given = iter(frames), []
    for window in windows[done:]:
        missing = window.stop - window.first_source
        given = given[len(given) - (window.shared - window.head_frames) :] if given else []
        given += islice(source, missing - len(given))
        if len(given) != missing:
            raise InputError(
                f"the clip ended {missing - len(given)} frames early in window {window.index + 1} of {len(windows)}; "
                "it changed while it was read: run again"
            )
        if window.shared and (tail_OHWC is None or len(tail_OHWC) != window.shared):
            raise InputError(f"window {window.index + 1} needs the edited tail of the one before it; start at 0")
        head = [] if tail_OHWC is None else list(tail_OHWC[: window.head_frames])
        given_FHWC = np.stack([*head, *given])
        made_FHWC = edit(given_FHWC, window)
        if made_FHWC.shape != given_FHWC.shape or made_FHWC.dtype != np.uint8:
            raise InputError(
                f"window {window.index + 1} gave {made_FHWC.dtype} {made_FHWC.shape}, not uint8 {given_FHWC.shape}; "
                "an edit keeps number and size of the frames"
            )
        result = _finish(window, made_FHWC, tail_OHWC, match_colour, fade, windows)
        tail_OHWC = result.tail_OHWC
        yield result


def _finish(
    window: Window,
    made_FHWC: np.ndarray,
    head_OHWC: np.ndarray | None,
    match: bool,
    fade: int,
    windows: Sequence[Window],
) -> WindowResult:
    join, drift = 0.0, (0.0, 0.0, 0.0)
    if head_OHWC is not None:
        both = slice(window.head_frames if window.head_frames < window.shared else 0, window.shared)
        redone_OHWC, kept_OHWC = made_FHWC[both], head_OHWC[both]
        difference = redone_OHWC.astype(np.float64) - kept_OHWC
        join, drift = float(np.abs(difference).mean()), tuple(difference.reshape(-1, 3).mean(0).tolist())
        if match:
            made_FHWC = ColourMatch.between(redone_OHWC, kept_OHWC).apply(made_FHWC)
        if fade:
            made_FHWC = fade_out(made_FHWC, head_OHWC, fade)
    following = windows[window.index + 1].shared if window.index + 1 < len(windows) else window.shared
    tail_OHWC = made_FHWC[len(made_FHWC) - following :].copy()
    return WindowResult(window, made_FHWC[window.shared :], tail_OHWC, join, drift, match and head_OHWC is not None)
