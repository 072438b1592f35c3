"""Camera: does it stand or move, and can its motion be followed? Writes the path that the later stages use.

Second stage. Static and moving grounds go different ways in the paper's pipeline; here a moving one costs accuracy, so
each record says which it was.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...media.outputs import atomic_path
from ..terms.camera import CameraPath, camera_path, plate_area
from ..terms.candidate import Candidate, Reject
from ..terms.checks import find_reject, limits_of
from ..terms.clip import read_clip
from ..terms.limits import Limits

PATH = "camera.json"


@dataclass(frozen=True, slots=True)
class Camera:
    """Rejects a camera that tracked points do not agree on, and one that sees too many places for one plate."""

    limits: Limits
    name: str = "camera"

    @property
    def version(self) -> str:
        return f"1 {limits_of(self.name, self.limits)}"

    def run(self, candidate: Candidate, folder: Path) -> Candidate | Reject:
        frames_FHWC = read_clip(folder)
        path = camera_path(frames_FHWC)
        measures = {"agreement": path.agreement, "area": plate_area(path, frames_FHWC.shape[1:3]), "shift": path.shift}
        reject = find_reject(self.name, measures, self.limits)
        if reject is not None:
            return reject
        values = {"shift": path.shift, "agreement": path.agreement, "to_middle": path.to_middle_F33.tolist()}
        with atomic_path(folder / PATH) as temporary:
            temporary.write_text(json.dumps(values) + "\n")
        return candidate.with_facts(self.name, ground="static" if path.is_static else "moving", **measures)


def read_path(folder: Path) -> CameraPath:
    """The path that the stage wrote."""
    values = json.loads((folder / PATH).read_text())
    return CameraPath(np.array(values["to_middle"]), values["shift"], values["agreement"])
