"""Erase: the clip without its subject. Writes erased.mp4.

After ground.py. A hole is what no frame shows uncovered, so an eraser has made it up; few of those are allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..terms.candidate import Candidate, Reject
from ..terms.checks import find_reject, limits_of
from ..terms.clip import CHANGED, ERASED, read_clip, read_mask, write_clip
from ..terms.limits import Limits
from ..terms.roles import Eraser
from .camera import read_path


@dataclass(frozen=True, slots=True)
class Erase:
    eraser: Eraser
    limits: Limits
    gpus: float = 0.0
    name: str = "erase"

    @property
    def version(self) -> str:
        return f"1 {self.eraser.name} {limits_of(self.name, self.limits)}"

    def run(self, candidate: Candidate, folder: Path) -> Candidate | Reject:
        changed_FHW = read_mask(folder, CHANGED)
        phrase = candidate.fact("subject", "phrase")
        erased = self.eraser.erase(read_clip(folder), changed_FHW, read_path(folder), phrase)
        hole = float(erased.hole_FHW.sum() / changed_FHW.sum())
        measures = {"hole": hole, "drift": erased.drift, "misfit": erased.misfit}
        reject = find_reject(self.name, measures, self.limits)
        if reject is not None:
            return reject
        write_clip(folder, ERASED, erased.frames_FHWC, candidate.fps)
        return candidate.with_facts(self.name, **measures, by=self.eraser.name)
