"""The roles that stages ask for, whoever plays them: classic/ (OpenCV, no download), InstructX itself, models/.

Place: between stages/ and the back ends; cast.py says who plays what. A stage decides and writes files; a role only
computes. `name` is of the player with its version, for a record's provenance.
Shapes: frames_FHWC uint8 RGB; mask_FHW bool; poses_FHWC uint8, skeletons on black; flow_HW2 float32 pixels, x and y.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ...errors import InputError
from .camera import CameraPath

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels, the last two not in it


class Unplayable(InputError):
    """A player that cannot play at all: its weights, its server, its program. The run ends, and no clip is blamed."""


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """One thing of a clip. mask_FHW: its pixels. changed_FHW: all that it changes, its shadow as well.

    phrase: what it is in words, "" where the finder has none. score: how sure it is, in [0, 1].
    """

    mask_FHW: np.ndarray
    changed_FHW: np.ndarray
    phrase: str = ""
    score: float = 1.0


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where a grounder sees what a phrase says: in one frame, in a box, and how sure it is, in [0, 1]."""

    phrase: str
    frame: int
    box: Box
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class Erasure:
    """frames_FHWC: without the subject. hole_FHW: pixels that had to be made up, since nothing shows what is there;
    none of an eraser whose trade it is to make up.

    drift, misfit: how the fill would differ from the clip just beside the subject, where the clip shows what is there:
    the mean in levels, and the share of pixels that differ visibly. 0 of an eraser that cannot say.
    """

    frames_FHWC: np.ndarray
    hole_FHW: np.ndarray
    drift: float = 0.0
    misfit: float = 0.0


def without_article(words: str) -> str:
    """ "the red car" -> "red car": sentences bring their own."""
    first, _, rest = words.partition(" ")
    return rest if first.lower() in ("a", "an", "the") and rest else words


class Finder(Protocol):
    """Finds and tracks what could be edited, the best first."""

    @property
    def name(self) -> str: ...

    def find(self, frames_FHWC: np.ndarray, path: CameraPath) -> list[Subject]: ...


class Grounder(Protocol):
    """Says where in a clip the things of some phrases are; without phrases what it finds by itself."""

    @property
    def name(self) -> str: ...

    def ground(self, frames_FHWC: np.ndarray, phrases: Sequence[str], path: CameraPath) -> list[Sighting]: ...


class Tracker(Protocol):
    """Follows what was sighted through the clip, pixel by pixel: (F, H, W) bool."""

    @property
    def name(self) -> str: ...

    def track(self, frames_FHWC: np.ndarray, sighting: Sighting, path: CameraPath) -> np.ndarray: ...


class Eraser(Protocol):
    """Takes a subject out of a clip. phrase: what it is in words, "" where nobody knows."""

    @property
    def name(self) -> str: ...

    def erase(self, frames_FHWC: np.ndarray, changed_FHW: np.ndarray, path: CameraPath, phrase: str) -> Erasure: ...


class Inpainter(Protocol):
    """Puts another thing where the mask is. phrase: what is there; other: what is to be there."""

    @property
    def name(self) -> str: ...

    def inpaint(self, frames_FHWC: np.ndarray, mask_FHW: np.ndarray, phrase: str, other: str) -> np.ndarray: ...


class FrameEditor(Protocol):
    """Edits one frame by an instruction, at its own size."""

    @property
    def name(self) -> str: ...

    def edit_frame(self, frame_HWC: np.ndarray, instruction: str) -> np.ndarray: ...


@dataclass(frozen=True, slots=True, eq=False)
class Poses:
    """How a person moves. points_FK3: x and y in pixels and how sure, of the 17 points of COCO."""

    points_FK3: np.ndarray

    @property
    def sureness(self) -> float:
        return float(self.points_FK3[..., 2].mean())


class PoseReader(Protocol):
    """Reads the poses of the person under the mask."""

    @property
    def name(self) -> str: ...

    def read(self, frames_FHWC: np.ndarray, mask_FHW: np.ndarray) -> Poses: ...


class Animator(Protocol):
    """Lets the person of a picture move as the poses say: frames of the picture's size, one a pose."""

    @property
    def name(self) -> str: ...

    def animate(self, first_HWC: np.ndarray, driving_FHWC: np.ndarray, poses: Poses, prompt: str) -> np.ndarray: ...


@dataclass(frozen=True, slots=True)
class SwapWords:
    """How a swap is made and said. edit: the instruction that turns the film's thing into another; other: that one;
    back: the instruction of the pair, from the edited clip to the film."""

    edit: str
    other: str
    back: str


class Writer(Protocol):
    """Says what is in a clip and what is done to it. Every answer is of frames that it may look at."""

    @property
    def name(self) -> str: ...

    def things(self, frames_FHWC: np.ndarray) -> Sequence[str]: ...

    def swap(self, frames_FHWC: np.ndarray, phrase: str, key: str) -> SwapWords: ...

    def instruction(self, source_FHWC: np.ndarray, target_FHWC: np.ndarray, task: str, draft: str) -> str:
        """The words of a pair. draft: those that are known to be true."""
        ...


class PairJudge(Protocol):
    """How good a pair is, by dimension, 1 to 10: whether a judge would believe the edit."""

    @property
    def name(self) -> str: ...

    def judge(self, source: Path, target: Path, instruction: str) -> dict[str, float]: ...


class Flow(Protocol):
    """Where the pixels of a frame are in another: (H, W, 2)."""

    @property
    def name(self) -> str: ...

    def flow(self, first_HWC: np.ndarray, second_HWC: np.ndarray) -> np.ndarray: ...
