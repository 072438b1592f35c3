"""InstructX itself as grounder and tracker ("segment the ..."), eraser ("remove the ...") and in-painter.

Place: editing/ -> ours -> stages/. So a model makes the pairs that a better one is trained on. Outside of the mask the
film's own pixels stay: what a model draws anew there would be taught as part of the edit.
Shapes: frames_FHWC uint8; mask_FHW bool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..digests import model_files_digest
from ..editing.piece import Piece, edit_piece
from ..editing.settings import Sampling
from ..editing.windows import FADE, SMOOTH, Window, edit_windows, plan_windows
from .terms.camera import CameraPath
from .terms.fill import pasted
from .terms.masks import box_around
from .terms.roles import Erasure, Sighting

if TYPE_CHECKING:
    from ..pipeline import InstructXPipeline

BATCH = 16  # pictures
WHITE = 127  # levels from which on a segmentation is white
GONE = 16.0  # levels by which a pixel must change when its thing is removed
SURE = 0.5  # share of a mask that must change so


@dataclass(frozen=True, slots=True)
class OwnEditor:
    """A clip of any length through the pipeline by one instruction. weights: a folder of models, "" for the shipped
    one; they are read at the first edit of a process."""

    weights: str = ""
    device: str = ""
    seed: int = 0

    @property
    def name(self) -> str:
        return f"instructx {_digest(self.weights)}"

    @property
    def pipe(self) -> InstructXPipeline:
        return _read(self.weights, self.device)

    def edit(self, frames_FHWC: np.ndarray, instruction: str) -> np.ndarray:
        """uint8 in and out, in windows of the model's own length."""
        pipe = self.pipe
        usual, stride = pipe.instructx_config.sampling, pipe.instructx_config.vae.scale_factor_temporal
        sampling = Sampling(usual.num_steps, usual.guidance_scale, self.seed)

        def edit_window(given_FHWC: np.ndarray, window: Window) -> np.ndarray:
            piece = Piece(given_FHWC, usual.fps, instruction, pinned=window.pinned(stride) if window.shared else 0)
            return edit_piece(pipe, piece, sampling, _nobody)

        if len(frames_FHWC) <= usual.frames:
            return edit_piece(pipe, Piece(frames_FHWC, usual.fps, instruction), sampling, _nobody)
        windows = plan_windows(len(frames_FHWC), usual.frames, stride=stride, joins=SMOOTH)
        return np.concatenate(
            [result.new_FHWC for result in edit_windows(frames_FHWC, windows, edit_window, fade=FADE)]
        )

    def edit_frame(self, frame_HWC: np.ndarray, instruction: str) -> np.ndarray:
        return self.edit_pictures(frame_HWC[None], [instruction])[0]

    def edit_pictures(self, frames_FHWC: np.ndarray, instructions: Sequence[str]) -> np.ndarray:
        """Each frame as a picture by its own instruction, in batches; each has the noise that it has alone."""
        pipe, parts = self.pipe, list[np.ndarray]()
        for start in range(0, len(instructions), BATCH):
            some = slice(start, start + BATCH)
            words = list(instructions[some])
            seeds = [torch.Generator("cpu").manual_seed(self.seed) for _ in words]
            pictures = [torch.from_numpy(frame[None].copy()) for frame in frames_FHWC[some]]
            (frames,) = pipe(pictures, words, generator=seeds, return_dict=False)
            parts.append(np.clip(np.rint(np.asarray(frames)[:, 0] * 255.0), 0, 255).astype(np.uint8))
        return np.concatenate(parts)


def _nobody(step: int, steps: int) -> None:
    """Nobody looks at the steps."""


@dataclass(frozen=True, slots=True)
class OwnGrounder:
    """Segments the middle frame by each phrase. A mask counts where removing the thing changes what lies under it: a
    model that is asked for what is not there shows something all the same."""

    editor: OwnEditor

    @property
    def name(self) -> str:
        return f"{self.editor.name} segment 1"

    def ground(self, frames_FHWC: np.ndarray, phrases: Sequence[str], path: CameraPath) -> list[Sighting]:
        if not phrases:
            return []
        number, found = len(frames_FHWC) // 2, list[Sighting]()
        frame_HWC = frames_FHWC[number]
        same_PHWC = np.repeat(frame_HWC[None], len(phrases), axis=0)
        mask_PHW = _white(self.editor.edit_pictures(same_PHWC, [f"segment the {phrase}" for phrase in phrases]))
        without_PHWC = self.editor.edit_pictures(same_PHWC, [f"remove the {phrase}" for phrase in phrases])
        for phrase, mask_HW, without_HWC in zip(phrases, mask_PHW, without_PHWC, strict=True):
            change_HW = np.abs(without_HWC.astype(np.int16) - frame_HWC).mean(axis=-1)
            score = float((change_HW > GONE)[mask_HW].mean()) if mask_HW.any() else 0.0
            if score >= SURE:
                found.append(Sighting(phrase, number, box_around(mask_HW), score))
        return found


@dataclass(frozen=True, slots=True)
class OwnTracker:
    """Segments every frame as a picture: masks of clips are what no training has shown it (paper Fig. 6)."""

    editor: OwnEditor

    @property
    def name(self) -> str:
        return f"{self.editor.name} segment frames 1"

    def track(self, frames_FHWC: np.ndarray, sighting: Sighting, path: CameraPath) -> np.ndarray:
        return _white(self.editor.edit_pictures(frames_FHWC, [f"segment the {sighting.phrase}"] * len(frames_FHWC)))


def _white(mask_FHWC: np.ndarray) -> np.ndarray:
    return mask_FHWC.mean(axis=-1) > WHITE


@dataclass(frozen=True, slots=True)
class OwnEraser:
    editor: OwnEditor

    @property
    def name(self) -> str:
        return f"{self.editor.name} remove 1"

    def erase(self, frames_FHWC: np.ndarray, changed_FHW: np.ndarray, path: CameraPath, phrase: str) -> Erasure:
        """Pixels outside of the grown mask stay as they are, to the bit; how the model would have drawn them beside it
        is measured."""
        without_FHWC = self.editor.edit(frames_FHWC, f"remove the {phrase or 'object'}")
        return pasted(frames_FHWC, without_FHWC, changed_FHW)


@dataclass(frozen=True, slots=True)
class OwnInpainter:
    """Puts another thing in a subject's place: "replace the ... with ..."."""

    editor: OwnEditor

    @property
    def name(self) -> str:
        return f"{self.editor.name} replace 1"

    def inpaint(self, frames_FHWC: np.ndarray, mask_FHW: np.ndarray, phrase: str, other: str) -> np.ndarray:
        edited_FHWC = self.editor.edit(frames_FHWC, f"replace the {phrase} with {other}")
        return pasted(frames_FHWC, edited_FHWC, mask_FHW).frames_FHWC


@lru_cache(maxsize=1)
def _read(weights: str, device: str) -> InstructXPipeline:
    from ..weights import load_pipeline

    pipe = load_pipeline(weights or None, device=device or "cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@lru_cache(maxsize=4)
def _digest(weights: str) -> str:
    from ..weights import SHIPPED

    return model_files_digest([Path(weights) if weights else SHIPPED])[:12]
