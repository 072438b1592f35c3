"""Frames through the pipeline, pixels to pixels: what every edit shares, in one piece or in windows.

Below one.py and window_editor.py: [padding] -> pipeline -> [trim]. Frames have the model's size already.
Legend: F frames, H W pixels, C = 3 (RGB, 0..255).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..sampling.batch import edit_batch
from .fit import pad_clip, to_uint8_frames
from .progress import OnStepDone
from .settings import Sampling

if TYPE_CHECKING:
    from ..pipeline import InstructXPipeline
    from ..sampling.encode import Contexts


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """What is edited at once. pinned: latent frames at the start that are edited already. fps: in Hz.

    contexts: where the MLLM has read the instruction already.
    """

    frames_FHWC: np.ndarray
    fps: float
    instruction: str
    references: Sequence[np.ndarray] = ()
    pinned: int = 0
    contexts: Contexts | None = None

    def encode(self, pipe: InstructXPipeline, guidance: float) -> Contexts:
        """What the MLLM says to the instruction when it sees these frames, padded as they are edited."""
        padded_FHWC = pad_clip(self.frames_FHWC, pipe.instructx_config.vae.scale_factor_temporal)
        batch = edit_batch(padded_FHWC, self.instruction, list(self.references) or None)
        made = pipe.within_memory(
            "encoding", lambda: pipe.encode_instruction(batch, self.fps, unconditional=guidance != 1.0)
        )
        # A view multiplies in another order than the copy that a resumed edit reads, which shows in the last bit.
        negative = None if made.negative is None else made.negative.contiguous()
        return dataclasses.replace(made, positive=made.positive.contiguous(), negative=negative)


def edit_piece(pipe: InstructXPipeline, piece: Piece, sampling: Sampling, on_step: OnStepDone) -> np.ndarray:
    """uint8 (F, H, W, 3) in and out, as many frames as came in. Raises InputError where the numbers are not finite."""

    def on_step_end(
        _pipe: InstructXPipeline, step: int, _timestep: Tensor, _tensors: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        on_step(step + 1, sampling.steps)
        return {}

    contexts = piece.contexts
    source_FHWC = pad_clip(piece.frames_FHWC, pipe.instructx_config.vae.scale_factor_temporal)

    try:
        frames_BFCHW = pipe(
            source_FHWC,
            piece.instruction if contexts is None else None,
            context=None if contexts is None else contexts.positive,
            negative_context=None if contexts is None else contexts.negative,
            reference=[torch.from_numpy(picture.copy()) for picture in piece.references] or None,
            num_inference_steps=sampling.steps,
            guidance_scale=sampling.guidance,
            pinned=piece.pinned,
            fps=piece.fps,
            generator=torch.Generator("cpu").manual_seed(sampling.seed),
            callback_on_step_end=on_step_end,
            output_type="pt",
            return_dict=False,
        )[0]
    except FloatingPointError as error:
        raise InputError(
            f"{error}; the weights may hold NaN: check the checkpoint, or run with --dtype float32"
        ) from None
    assert isinstance(frames_BFCHW, Tensor), "output_type"
    return to_uint8_frames(frames_BFCHW)[: len(piece.frames_FHWC)]
