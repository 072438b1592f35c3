"""What a sample holds, whatever source it comes from: an edit pair, a scene to describe, or a picture to reconstruct.

Between a source (source.py), which makes them by number, and the cache and the jobs, which read them.
Legend: F frames, H W pixels, C 3 (RGB). Frames are uint8, masks (F, H, W) bool.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Regions = tuple[tuple[str, np.ndarray], ...]  # name and mask (F, H, W) of each
Judge = Callable[[np.ndarray], bool]  # edited frames (F, H, W, 3) uint8 -> the edit has succeeded
Questions = Callable[[np.random.Generator], list[tuple[str, str]]]  # random stream -> questions and their answers


@dataclass(frozen=True, slots=True, eq=False)
class EditSample:
    """An instruction, what it is said of and what it asks for. Source and target have the same frames and size."""

    source_FHWC: np.ndarray
    target_FHWC: np.ndarray
    instruction: str
    task: str  # kind of edit, in the source's own words
    reference_HWC: np.ndarray | None = None
    caption: str = ""  # the target in words; "" where nobody wrote it
    regions: Regions = ()  # what must change; () where that is not known
    judge: Judge | None = None  # None: this source cannot tell whether an edit has succeeded
    wordings: tuple[str, ...] = ()  # the same asked in other words
    questions: Questions | None = None  # an instruction for this edit, answered by the target in words; about it


@dataclass(frozen=True, slots=True, eq=False)
class SceneSample:
    """A picture or clip without an edit, for pretraining."""

    frames_FHWC: np.ndarray
    caption: str
    questions: Questions  # the first asks for a description, the others where and what things are


@dataclass(frozen=True, slots=True, eq=False)
class PictureSample:
    """What a VAE is to reconstruct, and the regions in which an edit of it would be judged; () for none."""

    frames_FHWC: np.ndarray
    regions: Regions = ()
