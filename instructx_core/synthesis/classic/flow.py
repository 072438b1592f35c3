"""The classic flow: DIS (Kroeger et al. 2016), which comes with OpenCV.

Beside the other classic players -> stages/ground.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(frozen=True, slots=True)
class DisFlow:
    name: str = "classic DIS 1"

    def flow(self, first_HWC: np.ndarray, second_HWC: np.ndarray) -> np.ndarray:
        gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first_HWC, second_HWC)]
        engine = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        return engine.calc(gray[0], gray[1], np.zeros((*gray[0].shape, 2), np.float32))
