"""Recolour: the clip with its subject in another colour. Writes recoloured.mp4, the source of a colour change.

After describe.py. The real film is the target, so what the model learns to draw is real: "make the green object blue"
goes from the recoloured clip to the film. A grey subject, or one without one colour, has no such pair.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ..terms.candidate import Candidate, Reject
from ..terms.clip import MASK, RECOLOURED, read_clip, read_mask, write_clip
from ..terms.colours import DEGREES, colour_name, recoloured


@dataclass(frozen=True, slots=True)
class Recolour:
    name: str = "recolour"
    version: str = "1"

    def run(self, candidate: Candidate, folder: Path) -> Candidate | Reject:
        colour = candidate.fact("describe", "colour")
        if colour not in DEGREES:
            return candidate.with_facts(self.name, colour="")
        others = [name for name in DEGREES if abs(_between(name, colour)) > 50.0]
        number = int(hashlib.sha256(candidate.id.encode()).hexdigest(), 16)
        wanted = others[number % len(others)]
        frames_FHWC, mask_FHW = read_clip(folder), read_mask(folder, MASK)
        edited_FHWC = np.stack(
            [
                recoloured(frame, cv2.GaussianBlur(mask.astype(np.float32), (3, 3), 0), _between(wanted, colour))
                for frame, mask in zip(frames_FHWC, mask_FHW, strict=True)
            ]
        )
        # Named again: a turned hue need not be what was aimed at, and the instruction must say what is there.
        found = colour_name(edited_FHWC[mask_FHW])
        if found in ("", colour):
            return candidate.with_facts(self.name, colour="")
        write_clip(folder, RECOLOURED, edited_FHWC, candidate.fps)
        return candidate.with_facts(self.name, colour=found)


def _between(first: str, second: str) -> float:
    """Degrees from the second colour to the first, -180 to 180."""
    return (DEGREES[first] - DEGREES[second] + 180.0) % 360.0 - 180.0
