"""Masks over time: arithmetic that stages and back ends share.

Legend: mask_FHW bool; frames_FHWC uint8.
"""

from __future__ import annotations

import cv2
import numpy as np

MARGIN = 5  # pixels, of the square by which a mask is grown: soft borders and blocks of the codec
RING = 25  # pixels, of the square that the ring around a subject is made with


def grown(mask_FHW: np.ndarray, margin: int = MARGIN) -> np.ndarray:
    """The mask with a border around it, half of `margin` wide."""
    kernel = np.ones((margin, margin), np.uint8)
    return np.stack([cv2.dilate(mask.astype(np.uint8), kernel) > 0 for mask in mask_FHW])


def beside(frame_HWC: np.ndarray, fill_HWC: np.ndarray, covered_HW: np.ndarray, seen_HW: np.ndarray) -> np.ndarray:
    """Levels by which a fill differs from the frame in the pixels around the subject, where it is known: (N,)."""
    around = cv2.dilate(covered_HW.astype(np.uint8), np.ones((RING, RING), np.uint8)) > 0
    difference = np.abs(fill_HWC.astype(np.int16) - frame_HWC).mean(axis=-1)
    return difference[around & ~covered_HW & seen_HW]


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two masks; 0 where both are empty."""
    return float((first & second).sum() / max(1, (first | second).sum()))


def main_piece(mask_HW: np.ndarray) -> np.ndarray:
    """The largest connected piece of a mask that is not empty: a box of all would reach to stray pixels."""
    count, labels_HW, stats, _ = cv2.connectedComponentsWithStats(mask_HW.astype(np.uint8), connectivity=8)
    return labels_HW == 1 + int(stats[1:count, cv2.CC_STAT_AREA].argmax())


def box_around(mask_HW: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a mask that is not empty, the last two not in it."""
    down, across = np.nonzero(mask_HW)
    return int(across.min()), int(down.min()), int(across.max()) + 1, int(down.max()) + 1
