"""Diffusion models as players: Flux Kontext edits a frame, Wan VACE erases and in-paints, Wan Animate drives a person.

Place: diffusers -> diffusion -> ../stages/erase.py, ../stages/swap.py. What VACE and Wan see is 4n+1 frames; longer
clips go in windows that are handed over.
Shapes: frames_FHWC uint8; mask_FHW bool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...editing.fit import pad_clip
from ...editing.windows import FADE, SMOOTH, Window, edit_windows, plan_windows
from ...errors import InputError
from ..terms.camera import CameraPath
from ..terms.fill import pasted
from ..terms.masks import grown
from ..terms.roles import Erasure, Poses
from .poses import draw_poses, faces
from .reading import read_pipeline, weights_name

STRIDE, LONGEST, SEGMENT = 4, 81, 77  # frames: of a latent one; of a window of VACE and of a segment of Animate
GREY = 128  # level that VACE is shown where it is to draw
FACE = 512  # pixels, of Animate's motion encoder
EMPTY = "the empty background of the scene, nothing in the foreground"
AWAY = "people, objects, artefacts, blur"


@dataclass(frozen=True, slots=True)
class Kontext:
    weights: str
    device: str = ""
    steps: int = 0
    seed: int = 0

    @property
    def name(self) -> str:
        return f"flux kontext {weights_name(self.weights)} steps={self.steps}"

    def edit_frame(self, frame_HWC: np.ndarray, instruction: str) -> np.ndarray:
        pipe = read_pipeline("FluxKontextPipeline", self.weights, self.device)
        height, width = frame_HWC.shape[:2]
        size = {"height": height, "width": width, "max_area": height * width, "_auto_resize": False}
        result = pipe(image=Image.fromarray(frame_HWC), prompt=instruction, output_type="np", **size, **_sampler(self))
        return _levels(result.images, frame_HWC[None].shape)[0]


@dataclass(frozen=True, slots=True)
class Vace:
    """Eraser and in-painter."""

    weights: str
    device: str = ""
    steps: int = 0
    seed: int = 0

    @property
    def name(self) -> str:
        return f"wan vace {weights_name(self.weights)} steps={self.steps}"

    def erase(self, frames_FHWC: np.ndarray, changed_FHW: np.ndarray, path: CameraPath, phrase: str) -> Erasure:
        """The scene goes on where the subject was; the film's own pixels stay outside of the grown mask."""
        return pasted(frames_FHWC, self._fill(frames_FHWC, grown(changed_FHW), EMPTY, f"{phrase}, {AWAY}"), changed_FHW)

    def inpaint(self, frames_FHWC: np.ndarray, mask_FHW: np.ndarray, phrase: str, other: str) -> np.ndarray:
        made_FHWC = self._fill(frames_FHWC, grown(mask_FHW), other, phrase)
        return pasted(frames_FHWC, made_FHWC, mask_FHW).frames_FHWC

    def _fill(self, frames_FHWC: np.ndarray, mask_FHW: np.ndarray, prompt: str, negative: str) -> np.ndarray:
        pipe = read_pipeline("WanVACEPipeline", self.weights, self.device)

        def fill_window(given_FHWC: np.ndarray, window: Window) -> np.ndarray:
            wanted_FHW = mask_FHW[window.start : window.stop].copy()
            wanted_FHW[: window.head_frames] = False  # handed over, and done already
            shown_FHWC = np.where(wanted_FHW[..., None], np.uint8(GREY), given_FHWC)
            video = pad_clip(shown_FHWC, STRIDE)
            mask = pad_clip(np.repeat(wanted_FHW[..., None], 3, axis=-1).astype(np.uint8) * np.uint8(255), STRIDE)
            height, width = video.shape[1:3]
            result = pipe(
                video=[Image.fromarray(frame) for frame in video],
                mask=[Image.fromarray(frame) for frame in mask],
                prompt=prompt,
                negative_prompt=negative,
                height=height,
                width=width,
                num_frames=len(video),
                output_type="np",
                **_sampler(self),
            )
            return _levels(result.frames[0], video.shape)[: len(given_FHWC)]

        windows = plan_windows(len(frames_FHWC), LONGEST, stride=STRIDE, joins=SMOOTH)
        made = edit_windows(frames_FHWC, windows, fill_window, fade=FADE)
        return np.concatenate([result.new_FHWC for result in made])


@dataclass(frozen=True, slots=True)
class Animate:
    weights: str
    device: str = ""
    steps: int = 0
    seed: int = 0

    @property
    def name(self) -> str:
        return f"wan animate {weights_name(self.weights)} steps={self.steps}"

    def animate(self, first_HWC: np.ndarray, driving_FHWC: np.ndarray, poses: Poses, prompt: str) -> np.ndarray:
        """The pipeline cuts long clips into segments itself and hands frames over."""
        pipe = read_pipeline("WanAnimatePipeline", self.weights, self.device)
        height, width = first_HWC.shape[:2]
        face = getattr(pipe.transformer.config, "motion_encoder_size", FACE)
        result = pipe(
            image=Image.fromarray(first_HWC),
            pose_video=[Image.fromarray(frame) for frame in draw_poses(poses, (height, width))],
            face_video=[Image.fromarray(frame) for frame in faces(driving_FHWC, poses, face)],
            prompt=prompt,
            height=height,
            width=width,
            segment_frame_length=min(SEGMENT, (len(driving_FHWC) - 1) // STRIDE * STRIDE + 1),
            output_type="np",
            **_sampler(self),
        )
        return _levels(result.frames[0], driving_FHWC.shape)


def _sampler(player: Kontext | Vace | Animate) -> dict[str, Any]:
    steps = {"num_inference_steps": player.steps} if player.steps else {}
    return {**steps, "generator": torch.Generator("cpu").manual_seed(player.seed)}


def _levels(pixels: Any, shape: tuple[int, ...]) -> np.ndarray:
    """[0, 1] -> uint8. Raises InputError for numbers that are none and for another size than was asked."""
    made = np.asarray(pixels)
    if made.shape != shape:
        raise InputError(f"the model gave {made.shape} and not {shape}; give clips of a size that it takes (--limits)")
    if not np.isfinite(made).all():
        raise InputError("the model gave numbers that are not finite; check its weights")
    return np.rint(np.clip(made, 0.0, 1.0) * 255.0).astype(np.uint8)
