"""The clean plate: what the camera would see without whatever moves, of real pixels from other times.

Place: terms/camera.py -> plate -> motion.py (what differs from it moves), eraser.py (what lies under the subject). A
plate is as large as all that the camera sees; a pixel that is never seen uncovered is a hole, and said to be one.
Shapes: frames_FHWC uint8; covered_FHW bool; plate_HWC uint8, seen_HW bool, in pixels of the plate.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..terms.camera import CameraPath, plate_size

SAMPLES = 41  # frames of which the median is taken: an odd number, spread over the clip
UNSEEN = 1 << 14  # above every level


@dataclass(frozen=True, slots=True, eq=False)
class Plate:
    """plate_HWC: the median over time. seen_HW: where it is one of enough pixels. to_plate_F33: from pixels of a
    frame."""

    plate_HWC: np.ndarray
    seen_HW: np.ndarray
    to_plate_F33: np.ndarray

    def at(self, number: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """The plate as frame `number` would see it, (H, W, 3), and where it is known, (H, W)."""
        matrix = self.to_plate_F33[number]
        if np.array_equal(matrix, np.eye(3)):
            return self.plate_HWC, self.seen_HW
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        picture = cv2.warpPerspective(self.plate_HWC, matrix, size[::-1], flags=flags)
        seen = cv2.warpPerspective(self.seen_HW.astype(np.uint8) * 255, matrix, size[::-1], flags=flags)
        return picture, seen > 250


def clean_plate(frames_FHWC: np.ndarray, path: CameraPath, covered_FHW: np.ndarray | None = None) -> Plate:
    """The median over time of the pixels that are not covered."""
    to_plate_F33, (down, across) = plate_size(path, frames_FHWC.shape[1:3])
    numbers = np.unique(np.linspace(0, len(frames_FHWC) - 1, SAMPLES).round().astype(int))
    stack_NHWC = np.full((len(numbers), down, across, 3), UNSEEN, dtype=np.int16)
    for place, number in enumerate(numbers):
        picture = frames_FHWC[number].astype(np.int16)
        free = np.ones(picture.shape[:2], dtype=np.uint8)
        if covered_FHW is not None:
            free[covered_FHW[number]] = 0
        if not path.is_static:
            matrix = to_plate_F33[number]
            picture = cv2.warpPerspective(frames_FHWC[number], matrix, (across, down), flags=cv2.INTER_CUBIC).astype(
                np.int16
            )
            free = (cv2.warpPerspective(free * 255, matrix, (across, down)) > 250).astype(np.uint8)
        stack_NHWC[place] = np.where(free[..., None] > 0, picture, UNSEEN)
    count_HW = (stack_NHWC[..., 0] < UNSEEN).sum(axis=0)
    stack_NHWC.sort(axis=0)
    middle_HW = np.maximum(count_HW - 1, 0) // 2
    plate = np.take_along_axis(stack_NHWC, middle_HW[None, :, :, None], axis=0)[0]
    seen = count_HW >= min(3, len(numbers))
    return Plate(np.where(seen[..., None], plate, 0).astype(np.uint8), seen, to_plate_F33)
