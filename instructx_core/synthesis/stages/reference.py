"""Reference: a picture of the subject from another time, turned and on a plain ground. Writes reference.png.

After describe.py ("cross-pair" in the paper: not a cut-out of the very frame, which a model would paste). The frame is
the one in which the subject is farthest from the borders and whole.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ...media.images import write_image
from ..terms.candidate import Candidate, Reject
from ..terms.clip import MASK, read_clip, read_mask

REFERENCE = "reference.png"
SIDE, FILL = 256, 0.7  # pixels of the picture; share of it that the longer side of the subject takes
TURN = 12.0  # degrees at most
GROUNDS = ((236, 236, 236), (196, 206, 214), (214, 204, 190), (120, 124, 128))


@dataclass(frozen=True, slots=True)
class Reference:
    name: str = "reference"
    version: str = "1"

    def run(self, candidate: Candidate, folder: Path) -> Candidate | Reject:
        frames_FHWC, mask_FHW = read_clip(folder), read_mask(folder, MASK)
        whole = [number for number, mask in enumerate(mask_FHW) if mask.any() and _distance(mask) > 0]
        if not whole:
            return candidate.with_facts(self.name, frame=None)
        number = max(whole, key=lambda each: int(mask_FHW[each].sum()))
        random = np.random.default_rng(int(hashlib.sha256(candidate.id.encode()).hexdigest()[:16], 16))
        ground = GROUNDS[int(random.integers(len(GROUNDS)))]
        picture = portrait(frames_FHWC[number], mask_FHW[number], ground, float(random.uniform(-TURN, TURN)))
        write_image(folder / REFERENCE, picture)
        return candidate.with_facts(self.name, frame=number)


def _distance(mask_HW: np.ndarray) -> int:
    down, across = np.nonzero(mask_HW)
    height, width = mask_HW.shape
    return int(min(down.min(), across.min(), height - 1 - down.max(), width - 1 - across.max()))


def portrait(frame_HWC: np.ndarray, mask_HW: np.ndarray, ground: tuple[int, int, int], degrees: float) -> np.ndarray:
    """The thing under the mask in the middle of a plain picture, turned: (SIDE, SIDE, 3) uint8."""
    down, across = np.nonzero(mask_HW)
    center = (float(across.min() + across.max()) / 2, float(down.min() + down.max()) / 2)
    scale = FILL * SIDE / (1 + max(across.max() - across.min(), down.max() - down.min()))
    matrix = cv2.getRotationMatrix2D(center, degrees, scale)
    matrix[:, 2] += SIDE / 2 - np.array(center)
    weight = cv2.GaussianBlur(
        cv2.erode(mask_HW.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32), (3, 3), 0
    )
    picture = cv2.warpAffine(frame_HWC, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC)
    weight = cv2.warpAffine(weight, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)[..., None]
    return np.rint(weight * picture + (1.0 - weight) * np.array(ground, dtype=np.float32)).astype(np.uint8)
