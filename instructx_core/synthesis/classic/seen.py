"""What moves as a grounder and as a tracker, for casts in which another back end plays the other of the two.

Place: finder.py -> seen -> grounded.py. Without words: a phrase names nothing here, so what moves is sighted for the
first phrase alone, and for none it is called "".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..terms.camera import CameraPath
from ..terms.masks import box_around
from ..terms.roles import Sighting
from .finder import MotionFinder


@dataclass(frozen=True, slots=True)
class MotionGrounder:
    """Each moving thing where it is largest."""

    name: str = "classic motion 2"

    def ground(self, frames_FHWC: np.ndarray, phrases: Sequence[str], path: CameraPath) -> list[Sighting]:
        found = list[Sighting]()
        for subject in MotionFinder().find(frames_FHWC, path):
            number = int(subject.mask_FHW.sum(axis=(1, 2)).argmax())
            found.append(Sighting("", number, box_around(subject.mask_FHW[number]), 1.0))
        return found


@dataclass(frozen=True, slots=True)
class MotionTracker:
    """The moving thing that fills the box best; nothing where none lies in it."""

    name: str = "classic motion 2"

    def track(self, frames_FHWC: np.ndarray, sighting: Sighting, path: CameraPath) -> np.ndarray:
        left, top, right, bottom = sighting.box
        box_HW = np.zeros(frames_FHWC.shape[1:3], dtype=bool)
        box_HW[top:bottom, left:right] = True
        best, mask_FHW = 0.0, np.zeros(frames_FHWC.shape[:3], dtype=bool)
        for subject in MotionFinder().find(frames_FHWC, path):
            mask_HW = subject.mask_FHW[sighting.frame]
            share = float((mask_HW & box_HW).sum() / max(1, mask_HW.sum())) * float((mask_HW & box_HW).sum())
            if share > best:
                best, mask_FHW = share, subject.mask_FHW
        return mask_FHW
