"""A grounder and a tracker as one finder: phrases -> boxes -> masks, the surest first.

Place: back ends with words -> grounded -> stages/subject.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .terms.camera import CameraPath
from .terms.masks import grown, overlap
from .terms.places import agree, named_place, where_in_picture
from .terms.roles import Grounder, Sighting, Subject, Tracker

SAME = 0.5  # intersection over union of two masks from which on they are of one thing
AROUND = 5  # pixels, of the square by which a mask is grown to what the thing changes


@dataclass(frozen=True, slots=True)
class GroundedFinder:
    """phrases: what a clip may show, asked for each clip."""

    grounder: Grounder
    tracker: Tracker
    phrases: Callable[[np.ndarray], Sequence[str]]

    @property
    def name(self) -> str:
        return f"{self.grounder.name} + {self.tracker.name}"

    def find(self, frames_FHWC: np.ndarray, path: CameraPath) -> list[Subject]:
        """Of two phrases for one thing the surer one stays; what a phrase says to be elsewhere is another thing."""
        sightings = self.grounder.ground(frames_FHWC, self.phrases(frames_FHWC), path)
        sightings = [each for each in sightings if _is_where_it_says(each, frames_FHWC.shape[1:3])]
        found = list[Subject]()
        for sighting in sorted(sightings, key=_sureness):
            mask_FHW = self.tracker.track(frames_FHWC, sighting, path)
            if mask_FHW.any() and all(overlap(mask_FHW, other.mask_FHW) < SAME for other in found):
                found.append(Subject(mask_FHW, grown(mask_FHW, AROUND), sighting.phrase, sighting.score))
        return found


def _is_where_it_says(sighting: Sighting, size: tuple[int, ...]) -> bool:
    named, (left, top, right, bottom) = named_place(sighting.phrase), sighting.box
    return not named or agree(named, where_in_picture((left + right) / 2 / size[1], (top + bottom) / 2 / size[0]))


def _sureness(sighting: Sighting) -> tuple[float, str]:
    return -sighting.score, sighting.phrase
