"""Fingerprint: 64 bits of what a clip looks like, by which export.py leaves out clips that are there already.

After check.py. A difference hash (Krawetz) of the first, the middle and the last frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..terms.candidate import Candidate, Reject
from ..terms.clip import read_clip


@dataclass(frozen=True, slots=True)
class Fingerprint:
    name: str = "fingerprint"
    version: str = "1"

    def run(self, candidate: Candidate, folder: Path) -> Candidate | Reject:
        frames_FHWC = read_clip(folder)
        picked = (0, len(frames_FHWC) // 2, len(frames_FHWC) - 1)
        return candidate.with_facts(self.name, bits=[difference_hash(frames_FHWC[number]) for number in picked])


def difference_hash(frame_HWC: np.ndarray) -> str:
    """64 bits in hex: whether each of 8x8 blocks is darker than its right neighbour."""
    gray = cv2.resize(cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    return np.packbits(gray[:, 1:] > gray[:, :-1]).tobytes().hex()


def distance(first: list[str], second: list[str]) -> int:
    """The largest number of bits by which two frames of the same place differ."""
    return max((int(one, 16) ^ int(other, 16)).bit_count() for one, other in zip(first, second, strict=True))
