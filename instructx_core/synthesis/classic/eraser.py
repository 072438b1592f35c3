"""The classic eraser: the subject is replaced by the clean plate, real pixels from other times of the same clip.

Place: plate.py -> eraser -> stages/erase.py. Only what no frame shows uncovered is made up (cv2.inpaint) and returned
as a hole; the stage allows few of those.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..terms.camera import CameraPath
from ..terms.masks import beside, grown
from ..terms.roles import Erasure
from .plate import clean_plate

VISIBLE = 24.0  # levels
REACH = 3  # pixels from which cv2.inpaint fills


@dataclass(frozen=True, slots=True)
class PlateEraser:
    name: str = "classic plate 2"

    def erase(self, frames_FHWC: np.ndarray, changed_FHW: np.ndarray, path: CameraPath, phrase: str = "") -> Erasure:
        """Pixels outside of the grown mask stay as they are, to the bit."""
        covered_FHW = grown(changed_FHW)
        plate = clean_plate(frames_FHWC, path, covered_FHW)
        erased_FHWC, hole_FHW = frames_FHWC.copy(), np.zeros(covered_FHW.shape, dtype=bool)
        around = list[np.ndarray]()
        for number, covered_HW in enumerate(covered_FHW):
            picture, seen_HW = plate.at(number, covered_HW.shape)
            around.append(beside(frames_FHWC[number], picture, covered_HW, seen_HW))
            fill = covered_HW & seen_HW
            erased_FHWC[number][fill] = picture[fill]
            hole_FHW[number] = covered_HW & ~seen_HW
            if hole_FHW[number].any():
                hole = hole_FHW[number].astype(np.uint8)
                erased_FHWC[number] = cv2.inpaint(erased_FHWC[number], hole, REACH, cv2.INPAINT_TELEA)
        differences = np.concatenate(around)
        if not differences.size:
            return Erasure(erased_FHWC, hole_FHW)
        return Erasure(erased_FHWC, hole_FHW, float(differences.mean()), float((differences > VISIBLE).mean()))
