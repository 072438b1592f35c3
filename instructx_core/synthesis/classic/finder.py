"""The classic finder: what moves before a clean plate is a subject. No words: it says where a thing is, not what.

Place: terms/camera.py, plate.py, motion.py -> finder -> stages/subject.py. Two passes: the first plate still holds a
shadow of what moves slowly; the second is made without the tracks of the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..terms.camera import CameraPath
from ..terms.masks import grown
from ..terms.roles import Subject
from .motion import tracks
from .plate import clean_plate


@dataclass(frozen=True, slots=True)
class MotionFinder:
    name: str = "classic motion 2"

    def find(self, frames_FHWC: np.ndarray, path: CameraPath) -> list[Subject]:
        """The largest first; empty where nothing moves."""
        first = tracks(frames_FHWC, clean_plate(frames_FHWC, path))
        if not first:
            return []
        covered_FHW = grown(np.any([track.mask_FHW for track in first], axis=0))
        found = tracks(frames_FHWC, clean_plate(frames_FHWC, path, covered_FHW))
        return [Subject(track.subject_FHW, track.mask_FHW) for track in found if track.subject_FHW.any()]
