"""Describe: what can be said of the subject without a model: its colour, its size, where it is and how it moves.

After check.py; instructions are made of it. A finder that knows what the thing is has said so, and its phrase is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..terms.candidate import Candidate, Reject
from ..terms.clip import MASK, read_clip, read_mask
from ..terms.colours import colour_name
from ..terms.places import where_in_picture

FAR = 0.25  # of the picture's side that a thing must cross to be said to move across it


@dataclass(frozen=True, slots=True)
class Describe:
    name: str = "describe"
    version: str = "1"

    def run(self, candidate: Candidate, folder: Path) -> Candidate | Reject:
        frames_FHWC, mask_FHW = read_clip(folder), read_mask(folder, MASK)
        shown = np.flatnonzero(mask_FHW.any(axis=(1, 2)))
        inner = [cv2.erode(mask_FHW[number].astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for number in shown[::8]]
        pixels = [frames_FHWC[number][mask] for number, mask in zip(shown[::8], inner, strict=True)]
        center_F2 = np.array([_center(mask_FHW[number]) for number in shown])
        return candidate.with_facts(
            self.name,
            colour=colour_name(np.concatenate(pixels)),
            motion=_motion(center_F2[0], center_F2[-1]),
            place=where_in_picture(*center_F2.mean(axis=0).tolist()),
            first=int(shown[0]),
            last=int(shown[-1]),
        )


def _center(mask_HW: np.ndarray) -> tuple[float, float]:
    """Of the mask, as shares of the sides, x and y in [0, 1]."""
    down, across = np.nonzero(mask_HW)
    return float(across.mean() / mask_HW.shape[1]), float(down.mean() / mask_HW.shape[0])


def _motion(first_2: np.ndarray, last_2: np.ndarray) -> str:
    across, down = (last_2 - first_2).tolist()
    if max(abs(across), abs(down)) < FAR:
        return ""
    if abs(across) >= abs(down):
        return "from left to right" if across > 0 else "from right to left"
    return "from top to bottom" if down > 0 else "from bottom to top"
