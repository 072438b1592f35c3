"""Ground: does the background stand or move? Optical flow with the subject masked, without the camera's own motion.

After subject.py. The paper makes swaps of people before a standing ground with poses, all others by in-painting: water,
leaves and a moving camera must be kept as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..terms.candidate import Candidate, Reject
from ..terms.clip import CHANGED, read_clip, read_mask
from ..terms.limits import Limits
from ..terms.roles import Flow
from .camera import read_path

PAIRS = 7  # of neighbouring frames that are looked at


@dataclass(frozen=True, slots=True)
class Ground:
    """Rejects nothing: every clip has one ground or the other."""

    flow: Flow
    limits: Limits
    gpus: float = 0.0
    name: str = "ground"

    @property
    def version(self) -> str:
        return f"1 {self.flow.name} stands={self.limits.stands:g}"

    def run(self, candidate: Candidate, folder: Path) -> Candidate | Reject:
        frames_FHWC, changed_FHW = read_clip(folder), read_mask(folder, CHANGED)
        path, moved, rest = read_path(folder), list[float](), list[float]()
        for number in np.unique(np.linspace(0, len(frames_FHWC) - 2, PAIRS).round().astype(int)):
            free_HW = ~(changed_FHW[number] | changed_FHW[number + 1])
            if not free_HW.any():
                continue
            flow_HW2 = self.flow.flow(frames_FHWC[number], frames_FHWC[number + 1])
            step = np.linalg.inv(path.to_middle_F33[number + 1]) @ path.to_middle_F33[number]
            own_HW2 = flow_HW2 - motion_of(step, flow_HW2.shape[:2])
            moved.append(float(np.median(np.linalg.norm(flow_HW2[free_HW], axis=-1))))
            rest.append(float(np.percentile(np.linalg.norm(own_HW2[free_HW], axis=-1), 90)))
        flow, own = (float(np.mean(each)) if each else 0.0 for each in (moved, rest))
        stands = path.is_static and max(flow, own) <= self.limits.stands
        return candidate.with_facts(
            self.name, kind="static" if stands else "dynamic", flow=flow, own=own, by=self.flow.name
        )


def motion_of(matrix_33: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Where a motion of the camera takes each pixel, (H, W, 2), x and y."""
    across, down = np.meshgrid(np.arange(size[1], dtype=np.float32), np.arange(size[0], dtype=np.float32))
    places_HW2 = np.stack([across, down], axis=-1)
    return cv2.perspectiveTransform(places_HW2, matrix_33) - places_HW2
