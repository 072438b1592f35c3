"""What the windows are given of the clip, and what is written of a finished one.

Around windows.handover: every frame of the source is read once, when a window asks for it, and fitted to the model.
Where the edit is laid over its source, the frames of the window at hand are put by until it is finished.
Legend: F frames, H W pixels, C = 3 (RGB).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ..geometry import FitBox
from ..media.stream import ClipScan, clip_frames
from .fit import apply_box
from .paste import PasteMask, pasted_frames
from .windows.between import Thinning


class Feed:
    """Reads the clip from the window on that the thinning begins with; no more than one of it lies in memory.

    written_size: (H, W) of the frames that are written.
    """

    def __init__(self, clip: ClipScan, mask: PasteMask | None, box: FitBox, thinning: Thinning) -> None:
        self.clip, self.mask, self.box, self.thinning = clip, mask, box, thinning
        self.written_size = (box.height, box.width) if mask is None else clip.size
        self._given: list[tuple[np.ndarray, np.ndarray]] = []  # of the window at hand: the source's frame, the model's

    def fitted_frames(self) -> Iterator[np.ndarray]:
        """Frames (H, W, 3) of the source as the model sees them, those that are edited."""
        return self.thinning.thin(self._all_fitted())

    def _all_fitted(self) -> Iterator[np.ndarray]:
        for frame_HWC in clip_frames(self.clip, start=self.thinning.start):
            fitted_HWC = apply_box(frame_HWC, self.box)
            if self.mask is not None:
                self._given.append((frame_HWC, fitted_HWC))
            yield fitted_HWC

    def result_frames(self, new_FHWC: np.ndarray) -> Iterable[np.ndarray]:
        """The frames of the result that a finished window adds: as they are, or laid over the source."""
        if self.mask is None:
            return new_FHWC
        originals, seen = zip(*self._given[-len(new_FHWC) :], strict=True)
        self._given.clear()
        return pasted_frames(originals, np.stack(seen), new_FHWC, self.box, self.mask)
