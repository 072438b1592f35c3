"""Names of colours: what a person would call the pixels of a thing, or "" where they have no one name.

Place: beside the finder, for instructions and for other colours. Names are the eleven basic ones of English (Berlin and
Kay 1969) and cyan, told by hue, saturation and value.
"""

from __future__ import annotations

import cv2
import numpy as np

HUES = (  # up to this hue in degrees
    (14.0, "red"),
    (40.0, "orange"),
    (68.0, "yellow"),
    (160.0, "green"),
    (200.0, "cyan"),
    (258.0, "blue"),
    (292.0, "purple"),
    (338.0, "pink"),
    (360.0, "red"),
)
DEGREES = {"red": 0.0, "orange": 28.0, "yellow": 54.0, "green": 120.0, "cyan": 184.0, "blue": 228.0, "purple": 278.0}
GRAY, DARK, LIGHT = 0.2, 0.2, 0.85  # saturation below which, values below and above which there is no hue
MOST = 0.6  # of the pixels that must have the name


def colour_name(pixels_N3: np.ndarray) -> str:
    """The name that most of the pixels have, uint8 RGB; "" where they are of several."""
    if not len(pixels_N3):
        return ""
    hsv = cv2.cvtColor(pixels_N3[None].astype(np.float32) / 255.0, cv2.COLOR_RGB2HSV)[0]
    names, counts = np.unique(
        [_name(*pixel) for pixel in hsv[:: max(1, len(hsv) // 2000)].tolist()], return_counts=True
    )
    best = int(counts.argmax())
    return str(names[best]) if counts[best] >= MOST * counts.sum() else ""


def _name(hue: float, saturation: float, value: float) -> str:
    if value < DARK:
        return "black"
    if saturation < GRAY:
        return "white" if value > LIGHT else "gray"
    name = next(name for limit, name in HUES if hue <= limit)
    if name == "orange" and value < 0.6:
        return "brown"
    if name == "red" and saturation < 0.5 and value > 0.7:
        return "pink"
    return name


def recoloured(frame_HWC: np.ndarray, weight_HW: np.ndarray, degrees: float) -> np.ndarray:
    """The frame with its hue turned by so many degrees where the weight is 1; light and shade stay."""
    hsv = cv2.cvtColor(frame_HWC.astype(np.float32) / 255.0, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + degrees) % 360.0
    turned = 255.0 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    mixed = frame_HWC + weight_HW[..., None] * (turned - frame_HWC)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
