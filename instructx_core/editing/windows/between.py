"""Editing fewer frames than a clip has: which are edited, how the edit is carried over to those between them.

Around the windows: a clip of 30 fps, and a model that was trained at 16. The windows see the chosen frames only. A
frame between two of them keeps its own picture and gets what the edit changed in the two, mixed by the distance to
them: the result has every frame of the source. What that costs is measured in docs/long-video.md.
Legend: F frames, H W pixels, 3 RGB; frames are uint8 sRGB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np

from .handover import WindowResult
from .plan import Window


def edited_numbers(frames: int, fps: Fraction | float, rate: float | None) -> tuple[int, ...]:
    """Numbers of the frames of a clip that are edited: all, or those nearest to `rate` a second and the last one."""
    if rate is None or rate >= fps:
        return tuple(range(frames))
    step = Fraction(fps) / Fraction(rate).limit_denominator(1000)
    picked = {round(step * place) for place in range(int((frames - 1) / step) + 1)}
    return tuple(sorted({*picked, frames - 1}))


def carry_over(sources_FHWC: np.ndarray, first_HWC: np.ndarray, last_HWC: np.ndarray) -> np.ndarray:
    """The frames between two edited ones: (F-2, H, W, 3). sources_FHWC: from the one to the other, both included."""
    steps = len(sources_FHWC) - 1
    first_change_HWC = first_HWC.astype(np.float32) - sources_FHWC[0]
    last_change_HWC = last_HWC.astype(np.float32) - sources_FHWC[-1]
    share_F111 = np.arange(1, steps, dtype=np.float32)[:, None, None, None] / steps
    made_FHWC = sources_FHWC[1:-1] + (1.0 - share_F111) * first_change_HWC + share_F111 * last_change_HWC
    return np.clip(np.rint(made_FHWC), 0, 255).astype(np.uint8)


class Thinning:
    """The frames of a clip on their way into the windows and out again.

    numbers: of the edited frames. start: number of the first frame to read, for the windows from `first` on. Where
    every frame is edited, nothing is kept.
    """

    def __init__(self, numbers: tuple[int, ...], first: Window) -> None:
        self.numbers, self.place = numbers, first.first_source
        self.all = numbers == tuple(range(len(numbers)))
        self.start = numbers[min(first.first_source, max(first.first_new - 1, 0))]
        self._sources: dict[int, np.ndarray] = {}  # from the last frame that was given out on

    def thin(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Of frames start, start + 1, ... those that are edited, from the first that the windows take."""
        chosen = set(self.numbers[self.place :])
        for number, frame_HWC in enumerate(frames, self.start):
            if not self.all:
                self._sources[number] = frame_HWC
            if number in chosen:
                yield frame_HWC

    def fill(self, result: WindowResult, before_HWC: np.ndarray | None) -> np.ndarray:
        """All frames that a finished window adds. before_HWC: the edited frame before them; None at the start."""
        if self.all:
            return result.new_FHWC
        filled: list[np.ndarray] = []
        first = result.window.first_new
        for place, edited_HWC in enumerate(result.new_FHWC, first):
            if before_HWC is not None:
                span = range(self.numbers[place - 1], self.numbers[place] + 1)
                sources_FHWC = np.stack([self._sources[number] for number in span])
                filled.extend(carry_over(sources_FHWC, before_HWC, edited_HWC))
            filled.append(edited_HWC)
            before_HWC = edited_HWC
        last = self.numbers[result.window.stop - 1]
        self._sources = {number: frame for number, frame in self._sources.items() if number >= last}
        return np.stack(filled)


def added_frames(numbers: tuple[int, ...], window: Window) -> int:
    """Frames of the clip that a window adds, those between the edited ones included."""
    return numbers[window.stop - 1] - (numbers[window.first_new - 1] if window.first_new else -1)
