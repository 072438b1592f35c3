"""Check: is the erased clip what it claims to be? Judged on the files as they were written, without a model.

After erase.py. Outside of the edit nothing may change, inside something must, nothing that moves may be left of the
subject, the filled region must neither flicker nor show its border.
Shapes: frames_FHWC uint8; mask_FHW bool.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..terms.candidate import Candidate, Reject
from ..terms.checks import find_reject, limits_of
from ..terms.clip import CHANGED, ERASED, MASK, read_clip, read_mask
from ..terms.limits import Limits
from ..terms.masks import box_around, grown, overlap
from ..terms.roles import Box, Finder, Grounder
from .camera import read_path

SLOPE = 16.0  # of Sobel, below which a codec's own noise lies: it must not count on a plain ground
SAME = 0.3  # intersection over union of two boxes from which on they are of one thing
RING = 7  # pixels, of the square that a ring around a mask is made with


@dataclass(frozen=True, slots=True)
class CheckErasure:
    """finder: of what moves. grounder: looks for the subject by its words, where there are words."""

    finder: Finder
    grounder: Grounder | None
    limits: Limits
    gpus: float = 0.0
    name: str = "check"

    @property
    def version(self) -> str:
        grounder = self.grounder.name if self.grounder else "no words"
        return f"2 {self.finder.name} {grounder} {limits_of(self.name, self.limits)}"

    def run(self, candidate: Candidate, folder: Path) -> Candidate | Reject:
        clip_FHWC, erased_FHWC = read_clip(folder), read_clip(folder, ERASED)
        mask_FHW, changed_FHW = read_mask(folder, MASK), read_mask(folder, CHANGED)
        measures = {
            "outside": psnr_outside(clip_FHWC, erased_FHWC, grown(changed_FHW, 9)),
            "visible": float(np.abs(clip_FHWC[mask_FHW].astype(np.int16) - erased_FHWC[mask_FHW]).mean()),
            "remainder": self._remainder(erased_FHWC, changed_FHW, folder),
            "found": self._found(candidate, erased_FHWC, mask_FHW, folder),
            "flicker": flicker(erased_FHWC, grown(changed_FHW)),
            "seam": seam(erased_FHWC, grown(changed_FHW)),
        }
        reject = find_reject(self.name, measures, self.limits)
        return candidate.with_facts(self.name, **measures) if reject is None else reject

    def _remainder(self, erased_FHWC: np.ndarray, changed_FHW: np.ndarray, folder: Path) -> float:
        """Pixels that still move where the subject was, as a share of it."""
        found = self.finder.find(erased_FHWC, read_path(folder))
        rest = sum(int((subject.changed_FHW & changed_FHW).sum()) for subject in found)
        return rest / max(1, int(changed_FHW.sum()))

    def _found(self, candidate: Candidate, erased_FHWC: np.ndarray, mask_FHW: np.ndarray, folder: Path) -> float:
        """How sure the grounder is that it sees the subject where it was; 0 without words for it."""
        phrase = candidate.fact("subject", "phrase")
        if self.grounder is None or not phrase:
            return 0.0
        scores = [0.0]
        for sighting in self.grounder.ground(erased_FHWC, [phrase], read_path(folder)):
            mask_HW = mask_FHW[sighting.frame]
            if mask_HW.any() and overlap(_filled(sighting.box, mask_HW), _filled(box_around(mask_HW), mask_HW)) > SAME:
                scores.append(sighting.score)
        return max(scores)


def _filled(box: Box, like_HW: np.ndarray) -> np.ndarray:
    left, top, right, bottom = box
    filled_HW = np.zeros_like(like_HW)
    filled_HW[top:bottom, left:right] = True
    return filled_HW


def psnr_outside(clip_FHWC: np.ndarray, erased_FHWC: np.ndarray, covered_FHW: np.ndarray) -> float:
    """dB, of the frame that changed most; 99 where nothing did."""
    worst = 0.0
    for before, after, covered in zip(clip_FHWC, erased_FHWC, covered_FHW, strict=True):
        if not covered.all():
            squares = (before[~covered].astype(np.float32) - after[~covered]) ** 2
            worst = max(worst, float(squares.mean()))
    return min(99.0, 10.0 * math.log10(255.0**2 / worst)) if worst else 99.0


def flicker(frames_FHWC: np.ndarray, covered_FHW: np.ndarray) -> float:
    """How much more the filled region changes from frame to frame than the ring around it does, in levels."""
    inside, around = list[float](), list[float]()
    for number in range(1, len(frames_FHWC)):
        change = cv2.absdiff(frames_FHWC[number], frames_FHWC[number - 1]).mean(axis=-1)
        region = covered_FHW[number] | covered_FHW[number - 1]
        ring = (cv2.dilate(region.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0) & ~region
        if region.any() and ring.any():
            inside.append(float(change[region].mean()))
            around.append(float(change[ring].mean()))
    return max(0.0, float(np.mean(inside) - np.mean(around))) if inside else 0.0


def seam(frames_FHWC: np.ndarray, covered_FHW: np.ndarray) -> float:
    """Contrast along the border of the filled region as a factor of that just outside of it; 1 where nothing shows."""
    at_border, outside = list[float](), list[float]()
    kernel = np.ones((3, 3), np.uint8)
    for frame, covered in zip(frames_FHWC[::4], covered_FHW[::4], strict=True):
        gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
        slope = np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))
        region = covered.astype(np.uint8)
        border = (cv2.dilate(region, kernel) - cv2.erode(region, kernel)) > 0
        ring = (cv2.dilate(region, np.ones((RING * 3, RING * 3), np.uint8)) > 0) & (cv2.dilate(region, kernel) == 0)
        if border.any() and ring.any():
            at_border.append(float(slope[border].mean()))
            outside.append(float(slope[ring].mean()))
    return (float(np.mean(at_border)) + SLOPE) / (float(np.mean(outside)) + SLOPE) if at_border else 1.0
