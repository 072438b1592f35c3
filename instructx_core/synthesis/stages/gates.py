"""Gate: is this clip worth the work? Size, sharpness, black frames, letters, and whether anything changes at all.

First stage after the cut. Every measure is kept, so that a report can show what another limit would have let through.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..terms.candidate import Candidate, Reject
from ..terms.checks import find_reject, limits_of
from ..terms.clip import read_clip
from ..terms.limits import Limits

SIDE = 256  # pixels, of the longer side at which sharpness and letters are judged
SAMPLES = 9


@dataclass(frozen=True, slots=True)
class Gates:
    """Measures come from a few frames over the clip; the worst or the middle one counts, as its name says."""

    limits: Limits
    name: str = "gates"

    @property
    def version(self) -> str:
        return f"1 {limits_of(self.name, self.limits)} darkness={self.limits.darkness:g}"

    def run(self, candidate: Candidate, folder: Path) -> Candidate | Reject:
        frames_FHWC = read_clip(folder)
        picked = np.unique(np.linspace(0, len(frames_FHWC) - 1, SAMPLES).round().astype(int))
        small = [_small(frames_FHWC[number]) for number in picked]
        measures = {
            "side": float(min(candidate.fact("cut", "film_size"))),
            "black": float(np.mean([frame.mean() < self.limits.darkness for frame in frames_FHWC])),
            "change": max(float(cv2.absdiff(small[0], other).mean()) for other in small[1:]),
            "sharpness": float(np.median([sharpness(frame) for frame in small])),
            "text": float(np.median([text_share(frame) for frame in small])),
        }
        reject = find_reject(self.name, measures, self.limits)
        return candidate.with_facts(self.name, **measures) if reject is None else reject


def _small(frame_HWC: np.ndarray) -> np.ndarray:
    height, width = frame_HWC.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.cvtColor(cv2.resize(frame_HWC, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)


def sharpness(gray_HW: np.ndarray) -> float:
    """Variance of the Laplacian, of a picture of about SIDE pixels."""
    return float(cv2.Laplacian(gray_HW, cv2.CV_32F).var())


def text_share(gray_HW: np.ndarray) -> float:
    """Share of the picture in rows of letters: low, long blocks of strong edges that change often along the row."""
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (3, 3))
    edges = cv2.morphologyEx(gray_HW, cv2.MORPH_GRADIENT, kernel) > 60
    joined = cv2.morphologyEx(edges.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((1, 9), np.uint8))
    count, _, stats, _ = cv2.connectedComponentsWithStats(joined)
    area = 0
    for left, top, width, height, pixels in stats[1:count]:
        is_row = 5 <= height <= 40 and width >= 2.5 * height and pixels >= 0.4 * width * height
        if is_row and _is_lettered(gray_HW[top : top + height, left : left + width]):
            area += width * height
    return area / gray_HW.size


def _is_lettered(row_HW: np.ndarray) -> bool:
    """Two levels that take turns about once a letter, in most of the lines of the row."""
    _, ink = cv2.threshold(row_HW, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    light, dark = row_HW[ink > 0], row_HW[ink == 0]
    if not light.size or not dark.size or light.mean() - dark.mean() < 60:
        return False
    turns = np.abs(np.diff((ink > 0).astype(np.int8), axis=1)).sum(axis=1)
    return bool(np.median(turns) >= row_HW.shape[1] / row_HW.shape[0])
