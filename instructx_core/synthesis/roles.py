"""The roles that stages ask for, whoever plays them: classic/ (OpenCV, no download), later models and InstructX itself.

Place: between stages/ and the back ends. A stage decides and writes files; a role only computes.
Shapes: frames_FHWC uint8 RGB; mask_FHW bool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .camera import CameraPath


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """One thing of a clip. mask_FHW: its pixels. changed_FHW: all that it changes, its shadow as well.

    phrase: what it is in words, "" where the finder has none. score: how sure it is, in [0, 1].
    """

    mask_FHW: np.ndarray
    changed_FHW: np.ndarray
    phrase: str = ""
    score: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Erased:
    """frames_FHWC: without the subject. hole_FHW: pixels that had to be made up, since nothing shows what is there.

    drift, misfit: how the fill would differ from the clip just beside the subject, where the clip shows what is there:
    the mean in levels, and the share of pixels that differ visibly. 0 of an eraser that cannot say.
    """

    frames_FHWC: np.ndarray
    hole_FHW: np.ndarray
    drift: float = 0.0
    misfit: float = 0.0


class Finder(Protocol):
    """Finds and tracks what could be edited, the best first."""

    @property
    def name(self) -> str: ...  # with its version, for a record's provenance

    def find(self, frames_FHWC: np.ndarray, path: CameraPath) -> list[Subject]: ...


class Eraser(Protocol):
    """Takes a subject out of a clip."""

    @property
    def name(self) -> str: ...

    def erase(self, frames_FHWC: np.ndarray, changed_FHW: np.ndarray, path: CameraPath) -> Erased: ...
