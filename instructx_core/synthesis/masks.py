"""Masks over time: arithmetic that stages and back ends share.

Legend: mask_FHW bool.
"""

from __future__ import annotations

import cv2
import numpy as np

MARGIN = 5  # pixels, of the square by which a mask is grown: soft borders and blocks of the codec


def grown(mask_FHW: np.ndarray, margin: int = MARGIN) -> np.ndarray:
    """The mask with a border around it, half of `margin` wide."""
    kernel = np.ones((margin, margin), np.uint8)
    return np.stack([cv2.dilate(mask.astype(np.uint8), kernel) > 0 for mask in mask_FHW])
