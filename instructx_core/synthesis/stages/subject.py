"""Subject: which thing of the clip will be edited, and its pixels in every frame. Writes mask.mp4 and changed.mp4.

Third stage. The finder's first subject that passes is taken: there long enough, neither dust nor half the picture, of
an area that does not jump, and one piece; what splits or jumps is two things that met, or a mask that was lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..terms.candidate import Candidate, Reject
from ..terms.checks import find_reject, limits_of
from ..terms.clip import CHANGED, MASK, read_clip, write_mask
from ..terms.limits import Limits
from ..terms.masks import main_piece
from ..terms.roles import Finder, Subject
from .camera import read_path

PIECE = 0.2  # of the subject's area, from which on a second piece counts


@dataclass(frozen=True, slots=True)
class ChooseSubject:
    finder: Finder
    limits: Limits
    gpus: float = 0.0
    name: str = "subject"

    @property
    def version(self) -> str:
        return f"2 {self.finder.name} {limits_of(self.name, self.limits)}"

    def run(self, candidate: Candidate, folder: Path) -> Candidate | Reject:
        found = self.finder.find(read_clip(folder), read_path(folder))
        if not found:
            return Reject(self.name, "no subject")
        refused = list[Reject]()
        for number, subject in enumerate(found):
            measures = measure_mask(subject.mask_FHW)
            reject = find_reject(self.name, measures, self.limits)
            if reject is None:
                write_mask(folder, MASK, subject.mask_FHW, candidate.fps)
                write_mask(folder, CHANGED, subject.changed_FHW, candidate.fps)
                words = {"phrase": subject.phrase, "score": subject.score, "by": self.finder.name}
                return candidate.with_facts(self.name, **measures, **words, others=_others(found, number))
            refused.append(reject)
        return refused[0]


def _others(found: list[Subject], chosen: int) -> int:
    """How many other things move that are not much smaller: the instruction must tell them apart."""
    areas = [int(subject.mask_FHW.sum()) for subject in found]
    return sum(area > 0.1 * areas[chosen] for number, area in enumerate(areas) if number != chosen)


def measure_mask(mask_FHW: np.ndarray) -> dict[str, float]:
    """present: share of frames that show the subject; area: its mean share of those frames; jump: the largest factor by
    which the area changes from frame to frame; lone: share of its frames in which it is one piece; border: in which it
    touches the border; stray: share of its pixels outside of the main piece, mean of its frames: what met it, and would
    be taken away with it."""
    area_F = mask_FHW.sum(axis=(1, 2)).astype(np.float64)
    shown_F = area_F > 0
    if not shown_F.any():
        return {"present": 0.0, "area": 0.0, "jump": float("inf"), "lone": 0.0, "border": 0.0, "stray": 1.0}
    inside_F = np.array([not _at_border(mask) for mask in mask_FHW])
    # Where it comes in or goes out over the border its area changes by right.
    pairs = shown_F[1:] & shown_F[:-1] & inside_F[1:] & inside_F[:-1]
    before, after = area_F[:-1][pairs], area_F[1:][pairs]
    return {
        "present": float(shown_F.mean()),
        "area": float(area_F[shown_F].mean() / mask_FHW[0].size),
        "jump": float(np.maximum(before / after, after / before).max()) if len(before) else 1.0,
        "lone": float(np.mean([_pieces(mask) == 1 for mask in mask_FHW[shown_F]])),
        "border": float(np.mean(~inside_F[shown_F])),
        "stray": float(np.mean([1.0 - main_piece(mask).sum() / mask.sum() for mask in mask_FHW[shown_F]])),
    }


def _at_border(mask_HW: np.ndarray) -> bool:
    return bool(mask_HW[0].any() or mask_HW[-1].any() or mask_HW[:, 0].any() or mask_HW[:, -1].any())


def _pieces(mask_HW: np.ndarray) -> int:
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask_HW.astype(np.uint8), connectivity=8)
    areas = stats[1:count, cv2.CC_STAT_AREA]
    return int((areas > PIECE * areas.sum()).sum())
