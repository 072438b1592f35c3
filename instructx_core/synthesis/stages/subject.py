"""Subject: which thing of the clip will be edited, and its pixels in every frame. Writes mask.mp4 and changed.mp4.

Third stage. The finder's first subject that passes is taken: there long enough, neither dust nor half the picture, of
an area that does not jump, and one piece; what splits or jumps is two things that met, or a mask that was lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..candidate import Candidate, Reject
from ..clip import CHANGED, MASK, read_clip, write_mask
from ..limits import Limits
from ..roles import Finder, Subject
from .camera import read_path

PIECE = 0.2  # of the subject's area, from which on a second piece counts


@dataclass(frozen=True, slots=True)
class Measures:
    """Of a subject: share of frames that show it, mean area as a share of the frame, largest jump of the area as a
    factor, share of its frames in which it is one piece, share of its frames in which it touches the border."""

    present: float
    area: float
    jump: float
    lone: float
    border: float


@dataclass(frozen=True, slots=True)
class ChooseSubject:
    finder: Finder
    limits: Limits
    name: str = "subject"

    @property
    def version(self) -> str:
        limits = self.limits
        numbers = (limits.present, limits.smallest, limits.largest, limits.jump, limits.lone)
        return f"1 {self.finder.name} {' '.join(f'{number:g}' for number in numbers)}"

    def run(self, candidate: Candidate, folder: Path) -> Candidate | Reject:
        found = self.finder.find(read_clip(folder), read_path(folder))
        if not found:
            return Reject(self.name, "no subject")
        refused = list[Reject]()
        for number, subject in enumerate(found):
            measures = measure(subject.mask_FHW)
            reject = self._judge(measures)
            if reject is None:
                write_mask(folder, MASK, subject.mask_FHW, candidate.fps)
                write_mask(folder, CHANGED, subject.changed_FHW, candidate.fps)
                return candidate.with_facts(
                    self.name,
                    phrase=subject.phrase,
                    score=subject.score,
                    present=measures.present,
                    area=measures.area,
                    jump=measures.jump,
                    lone=measures.lone,
                    border=measures.border,
                    others=_others(found, number),
                    by=self.finder.name,
                )
            refused.append(reject)
        return refused[0]

    def _judge(self, measures: Measures) -> Reject | None:
        limits = self.limits
        checks = (
            ("the subject is too small", measures.area, limits.smallest, measures.area < limits.smallest),
            ("the subject is too large", measures.area, limits.largest, measures.area > limits.largest),
            ("the subject is not there for long enough", measures.present, limits.present, None),
            ("the subject's area jumps", measures.jump, limits.jump, measures.jump > limits.jump),
            ("the subject is not one piece", measures.lone, limits.lone, measures.lone < limits.lone),
        )
        for reason, value, limit, is_bad in checks:
            if value < limit if is_bad is None else is_bad:
                return Reject(self.name, reason, float(value), float(limit))
        return None


def _others(found: list[Subject], chosen: int) -> int:
    """How many other things move that are not much smaller: the instruction must tell them apart."""
    areas = [int(subject.mask_FHW.sum()) for subject in found]
    return sum(area > 0.1 * areas[chosen] for number, area in enumerate(areas) if number != chosen)


def measure(mask_FHW: np.ndarray) -> Measures:
    """What the limits are about."""
    area_F = mask_FHW.sum(axis=(1, 2)).astype(np.float64)
    shown_F = area_F > 0
    if not shown_F.any():
        return Measures(0.0, 0.0, np.inf, 0.0, 0.0)
    inside_F = np.array([not _at_border(mask) for mask in mask_FHW])
    # Where it comes in or goes out over the border its area changes by right.
    pairs = shown_F[1:] & shown_F[:-1] & inside_F[1:] & inside_F[:-1]
    before, after = area_F[:-1][pairs], area_F[1:][pairs]
    jump = float(np.maximum(before / after, after / before).max()) if len(before) else 1.0
    lone = np.mean([_pieces(mask) == 1 for mask in mask_FHW[shown_F]])
    border = float(np.mean(~inside_F[shown_F]))
    return Measures(float(shown_F.mean()), float(area_F[shown_F].mean() / mask_FHW[0].size), jump, float(lone), border)


def _at_border(mask_HW: np.ndarray) -> bool:
    return bool(mask_HW[0].any() or mask_HW[-1].any() or mask_HW[:, 0].any() or mask_HW[:, -1].any())


def _pieces(mask_HW: np.ndarray) -> int:
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask_HW.astype(np.uint8), connectivity=8)
    areas = stats[1:count, cv2.CC_STAT_AREA]
    return int((areas > PIECE * areas.sum()).sum())
