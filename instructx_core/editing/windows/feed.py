"""What the windows are given of the clip, and what is written of a finished one.

Around handover.edit_windows: frames of the source are fitted to the model as they are asked for. Where the edit is laid
over its source, what the model saw is put by until its window is finished, and the full-size frames are read beside.
Legend: F frames, H W pixels, C = 3 (RGB).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from ...geometry import FitBox
from ...media.stream import ClipScan, clip_frames
from ..fit import apply_box
from ..paste import PasteMask, pasted_frames
from .plan import Window


class Feed:
    """Reads the clip from window `first` on; no more than one window of it lies in memory.

    written_size: (H, W) of the frames that are written.
    """

    def __init__(self, clip: ClipScan, mask: PasteMask | None, box: FitBox, first: Window) -> None:
        self.clip, self.mask, self.box, self.first = clip, mask, box, first
        self.written_size = (box.height, box.width) if mask is None else clip.size
        self._seen: list[np.ndarray] = []  # by the model, of the window at hand
        self._originals = iter(()) if mask is None else clip_frames(clip, None, first.first_new)

    def fitted(self) -> Iterator[np.ndarray]:
        """Frames (H, W, 3) of the source as the model sees them."""
        for frame_HWC in clip_frames(self.clip, None, self.first.first_source):
            fitted_HWC = apply_box(frame_HWC, self.box)
            if self.mask is not None:
                self._seen.append(fitted_HWC)
            yield fitted_HWC

    def written(self, new_FHWC: np.ndarray) -> Iterable[np.ndarray]:
        """The frames of the result that a finished window adds: itself, or laid over the source."""
        if self.mask is None:
            return new_FHWC
        seen_FHWC = np.stack(self._seen[-len(new_FHWC) :])
        self._seen.clear()
        return pasted_frames(islice(self._originals, len(new_FHWC)), seen_FHWC, new_FHWC, self.box, self.mask)
