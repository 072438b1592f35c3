"""What moves by itself: tracks of pixels that differ from the clean plate, each a mask in every frame.

Place: plate.py -> motion -> subject (stages/subject.py). Differences are taken against the plate's neighbourhood where
the camera moves, so that half a pixel of misalignment is no motion; hysteresis keeps soft borders and shadows.
Shapes: frames_FHWC uint8; mask_FHW, shadow_FHW bool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from scipy import ndimage

from .plate import Plate

LEAST, SURE = 9.0, 26.0  # levels that a pixel must differ by to belong to a track, and to begin one
NOISES = 5.0  # times the clip's own noise, at least
BORDER, MIXED = 3, 0.45  # pixels; share of the difference inside
TINY = 0.0005  # of the frame, in the mean: a smaller track is dust
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One thing that moves. mask_FHW: all that it changes; shadow_FHW: the part of it that is only darker ground;
    border_FHW: pixels around the thing that lens and codec have mixed, of more ground than thing."""

    mask_FHW: np.ndarray
    shadow_FHW: np.ndarray
    border_FHW: np.ndarray

    @property
    def subject_FHW(self) -> np.ndarray:
        return self.mask_FHW & ~self.shadow_FHW & ~self.border_FHW


def tracks(frames_FHWC: np.ndarray, plate: Plate) -> list[Track]:
    """Everything that moves, the largest first."""
    size = frames_FHWC.shape[1:3]
    moves = not np.array_equal(plate.to_plate_F33[0], plate.to_plate_F33[-1])
    difference_FHW = np.zeros(frames_FHWC.shape[:3], dtype=np.float32)
    dark_FHW = np.zeros(frames_FHWC.shape[:3], dtype=bool)
    for number, frame in enumerate(frames_FHWC):
        picture, seen = plate.at(number, size)
        difference_FHW[number] = np.where(seen, _difference(frame, picture, moves), 0.0)
        dark_FHW[number] = _is_shadow(frame, picture)
    noise = 1.4826 * float(np.median(difference_FHW[:: max(1, len(frames_FHWC) // 8)]))
    low_FHW = difference_FHW > max(LEAST, NOISES * noise)
    high_FHW = difference_FHW > max(SURE, 2 * NOISES * noise)
    kernel = np.ones((3, 3), np.uint8)
    low_FHW = np.stack([cv2.morphologyEx(each.astype(np.uint8), cv2.MORPH_OPEN, kernel) > 0 for each in low_FHW])
    labels_FHW, count = cast(tuple[np.ndarray, int], ndimage.label(low_FHW, structure=np.ones((3, 3, 3))))
    areas = np.bincount(labels_FHW.ravel(), minlength=count + 1)
    starts = np.bincount(labels_FHW[high_FHW], minlength=count + 1)
    areas[0] = 0
    found = []
    for label in np.argsort(areas)[::-1]:
        if areas[label] < TINY * labels_FHW.size:
            break
        if starts[label]:
            mask_FHW = np.stack([_filled(each) for each in labels_FHW == label])
            shadow_FHW = mask_FHW & _smooth(dark_FHW & mask_FHW)
            found.append(Track(mask_FHW, shadow_FHW, _soft_border(mask_FHW & ~shadow_FHW, difference_FHW)))
    return found


def _soft_border(body_FHW: np.ndarray, difference_FHW: np.ndarray) -> np.ndarray:
    """Pixels along the border that differ by less than MIXED of what the inside does."""
    kernel = np.ones((2 * BORDER + 1, 2 * BORDER + 1), np.uint8)
    inner_FHW = np.stack([cv2.erode(each.astype(np.uint8), kernel) > 0 for each in body_FHW])
    if not inner_FHW.any():
        return np.zeros_like(body_FHW)
    level = MIXED * float(np.median(difference_FHW[inner_FHW]))
    return body_FHW & ~inner_FHW & (difference_FHW < level)


def _difference(frame_HWC: np.ndarray, plate_HWC: np.ndarray, moves: bool) -> np.ndarray:
    """Levels by which a pixel differs from the plate, or from the nearest of its neighbourhood in the plate."""
    frame = cv2.GaussianBlur(frame_HWC, (3, 3), 0).astype(np.float32)
    plate = cv2.GaussianBlur(plate_HWC, (3, 3), 0)
    low = high = plate
    if moves:
        kernel = np.ones((3, 3), np.uint8)
        low, high = cv2.erode(plate, kernel), cv2.dilate(plate, kernel)
    return np.maximum(np.maximum(low.astype(np.float32) - frame, frame - high.astype(np.float32)), 0.0).max(axis=-1)


def _is_shadow(frame_HWC: np.ndarray, plate_HWC: np.ndarray) -> np.ndarray:
    """Where the frame is the plate under less light: all three channels fall by nearly the same factor."""
    frame = cv2.GaussianBlur(frame_HWC, (3, 3), 0).astype(np.float32) + 4.0
    plate = cv2.GaussianBlur(plate_HWC, (3, 3), 0).astype(np.float32) + 4.0
    ratio_HWC = frame / plate
    ratio = ratio_HWC.mean(axis=-1)
    spread = ratio_HWC.max(axis=-1) - ratio_HWC.min(axis=-1)
    return (ratio > 0.3) & (ratio < 0.98) & (spread < 0.12)


def _smooth(mask_FHW: np.ndarray) -> np.ndarray:
    kernel = np.ones((3, 3), np.uint8)
    return np.stack([cv2.morphologyEx(each.astype(np.uint8), cv2.MORPH_OPEN, kernel) > 0 for each in mask_FHW])


def _filled(mask_HW: np.ndarray) -> np.ndarray:
    """Without pinholes; a hole as large as that of a ring stays."""
    kernel = np.ones((3, 3), np.uint8)
    return cv2.morphologyEx(mask_HW.astype(np.uint8), cv2.MORPH_CLOSE, kernel) > 0
