"""One image or clip through the pipeline, pixels to pixels: what every edit shares, of one piece or in windows.

Inside edit.py and long_video/job.py in the data flow: [geometry, padding] -> pipeline -> [trim], and the report.
Legend: F frames, H W pixels, C = 3 (RGB).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import InputError
from ..geometry import FitBox, pad_frames
from ..media.base import Media

if TYPE_CHECKING:
    from ..config import InstructXConfig
    from ..pipeline import InstructXPipeline

Progress = Callable[[int, int], None]  # (step done, steps in all)


def remarks(config: InstructXConfig, size: tuple[int, int], frames: int) -> list[str]:
    """That the model knows one small world, unless a source of (H, W) and so many frames is of it."""
    usual = config.sampling
    if not config.trained_on or (size[0] * size[1] == usual.area and frames in (1, usual.frames)):
        return []
    return [f"the {config.name} model was trained on {config.trained_on}: expect toy results on photos and films"]


@dataclass(frozen=True, slots=True)
class EditReport:
    """What an edit did. Sizes are (H, W) in pixels, seconds by stage: read, edit, write."""

    source: Path
    output: Path
    instruction: str
    modality: str
    source_size: tuple[int, int]
    box: FitBox
    frames_in: int
    frames_padded: int
    fps: Fraction | None
    steps: int
    guidance_scale: float
    seed: int
    references: int
    restored: bool = False  # pasted back into the source, at its size
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the result."""
        return self.source_size if self.restored else (self.box.height, self.box.width)

    def lines(self) -> list[str]:
        """The report for a person."""
        height, width = self.source_size
        kind = (
            "image" if self.modality == "image" else f"clip, {self.frames_in} frames at {float(self.fps or 0):.3f} fps"
        )
        lines = [f"source    {self.source} ({width}x{height} {kind})", f"geometry  {self.box.describe()}"]
        if self.frames_padded != self.frames_in:
            lines.append(
                f"length    {self.frames_in} frames padded to {self.frames_padded} (4n+1, last frame repeated), "
                f"trimmed back to {self.frames_in}"
            )
        lines.append(
            f"edit      {self.instruction!r}, {self.steps} steps, guidance {self.guidance_scale:g}, seed {self.seed}"
            + (f", {self.references} reference(s)" if self.references else "")
        )
        lines += [f"note      {note}" for note in self.notes]
        lines.append("seconds   " + ", ".join(f"{name} {value:.2f}" for name, value in self.seconds.items()))
        lines.append(f"written   {self.output} ({self.size[1]}x{self.size[0]})")
        return lines


def apply_box(frame_HWC: np.ndarray, box: FitBox) -> np.ndarray:
    """Cut and scale one uint8 frame as `box` says (Lanczos, antialiased); the frame itself when nothing changes."""
    if box.is_identity:
        return frame_HWC
    top, left, bottom, right = box.source_box
    image = Image.fromarray(np.ascontiguousarray(frame_HWC))
    fitted = image.resize((box.width, box.height), Image.Resampling.LANCZOS, box=(left, top, right, bottom))
    return np.array(fitted, dtype=np.uint8)


def pad_clip(frames_FHWC: np.ndarray, stride: int = 4) -> np.ndarray:
    """Repeat the last frame until the length is stride*n + 1, which the causal VAE needs."""
    missing = pad_frames(len(frames_FHWC), stride) - len(frames_FHWC)
    if missing == 0:
        return frames_FHWC
    return np.concatenate([frames_FHWC, np.repeat(frames_FHWC[-1:], missing, axis=0)])


def to_uint8_frames(frames_BFCHW: Tensor) -> np.ndarray:
    """The pipeline's "pt" output, (1, F, 3, H, W) in [0, 1] -> (F, H, W, 3) uint8, rounded."""
    return (frames_BFCHW[0].float() * 255.0).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def run_clip(
    pipe: InstructXPipeline, media: Media, instruction: str, pictures: list[np.ndarray], steps: int | None,
    guidance: float | None, seed: int, progress: Progress | None, contexts: tuple[Tensor, Tensor | None] | None = None,
    pinned: int = 0,
) -> tuple[np.ndarray, int, float]:  # fmt: skip
    """Pixels in, pixels out, as many frames as came in; and the number of steps and guidance that were used.

    contexts: (context, negative) of pipe.encode_instruction, where the MLLM has read the instruction already. pinned:
    latent frames at the start that are edited already.
    """
    sampling = pipe.instructx_config.sampling
    steps = sampling.num_steps if steps is None else steps
    guidance = sampling.guidance_scale if guidance is None else guidance
    source_FHWC = pad_clip(media.frames_FHWC, pipe.instructx_config.vae.scale_factor_temporal)

    def on_step(_pipe: Any, step: int, _timestep: Tensor, _tensors: dict[str, Any]) -> dict[str, Any]:
        if progress is not None:
            progress(step + 1, steps)
        return {}

    def sample() -> Tensor:
        return pipe(
            source_FHWC, instruction if contexts is None else None, context=contexts and contexts[0],
            negative_context=contexts and contexts[1], reference=[torch.from_numpy(p.copy()) for p in pictures] or None,
            num_inference_steps=steps, guidance_scale=guidance, pinned=pinned, output_type="latent", return_dict=False,
            generator=torch.Generator("cpu").manual_seed(seed), callback_on_step_end=on_step,
            fps=None if media.fps is None else float(media.fps),
        )[0]  # fmt: skip

    try:
        latents = pipe.within_memory("sampling", sample)
        frames_BFCHW = pipe.within_memory("decoding", lambda: pipe.decode(latents, "pt"))
    except FloatingPointError as error:
        raise InputError(
            f"{error}; the weights may hold NaN: check the checkpoint, or run with --dtype float32"
        ) from None
    frames_FHWC = to_uint8_frames(frames_BFCHW)[: len(media.frames_FHWC)]
    pipe.maybe_free_model_hooks()
    return frames_FHWC, steps, float(guidance)
