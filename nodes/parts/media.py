"""What the nodes read from native wires: IMAGE batch or VIDEO -> uint8 frames, frame rate, references.

The encoder sees the whole source: nothing is cut here, Qwen's own resize rule is applied in
instructx_core.encoder.inputs.
Legend: F frames, H W pixels, 3 RGB.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from ...instructx_core.errors import InputError

logger = logging.getLogger("instructx")


@dataclass(frozen=True)
class SourceClip:
    """frames_FHWC: uint8 (F, H, W, 3). fps: of a VIDEO, in Hz; None for an IMAGE batch, which carries none."""

    frames_FHWC: Tensor
    fps: float | None


def read_clip(source: Any) -> SourceClip:
    """IMAGE batch (F, H, W, 3) in [0, 1], or VIDEO. Raises InputError for anything else."""
    if isinstance(source, Tensor):
        return SourceClip(from_image(source, "source"), None)
    if not hasattr(source, "get_components"):
        raise InputError(f"source is a {type(source).__name__}; connect an IMAGE (one or a batch) or a VIDEO")
    components = source.get_components()
    return SourceClip(from_image(components.images, "source"), float(components.frame_rate))


def are_unrelated(frames_FHWC: Tensor) -> bool:
    """Whether no two neighbours of a batch look like frames of one clip: a batch of photos, most likely.

    At every step 8x8 thumbnails differ by 12 of 255 or more, and correlate under 0.5; a clip with a cut or a flash has
    other steps. A hint, to ask by: pictures of one scene pass for a clip.
    """
    if len(frames_FHWC) < 2:
        return False
    small_FN = adaptive_avg_pool2d(frames_FHWC.movedim(-1, 1).float(), 8).flatten(1)
    unit_FN = normalize(small_FN - small_FN.mean(1, keepdim=True))
    differ_S = (small_FN[1:] - small_FN[:-1]).abs().mean(1) >= 12
    return bool((differ_S & ((unit_FN[1:] * unit_FN[:-1]).sum(1) < 0.5)).all())


def read_references(inputs: Mapping[str, Tensor | None]) -> list[Tensor]:
    """The reference_1, reference_2, ... inputs in order -> pictures uint8 (H, W, 3); a batch is several."""
    pictures = []
    for name in sorted(inputs):
        value = inputs[name]
        if value is not None:
            pictures += list(from_image(value, name))
    return pictures


def to_image(frames_FHWC: np.ndarray) -> Tensor:
    """uint8 frames -> the host's IMAGE, float in [0, 1]."""
    return torch.from_numpy(frames_FHWC).float() / 255.0


def from_image(image_FHWC: Tensor, name: str) -> Tensor:
    """A host's IMAGE -> uint8 frames; an alpha channel is dropped, as the host's own loader does.

    Raises InputError for an empty batch or a shape that is no picture.
    """
    if image_FHWC.ndim != 4 or image_FHWC.shape[-1] not in (3, 4) or 0 in image_FHWC.shape:
        raise InputError(f"{name} has shape {tuple(image_FHWC.shape)}; connect an IMAGE with at least one picture")
    frames = []
    outside = False
    for frame_HWC in image_FHWC[..., :3]:  # one by one: a clip in float takes four times the memory
        levels_HWC = (frame_HWC * 255.0).round()
        outside = outside or bool(levels_HWC.min() < 0) or bool(levels_HWC.max() > 255)
        frames.append(levels_HWC.clamp(0, 255).to("cpu", torch.uint8))
    if outside:
        logger.warning("InstructX: %s has values outside of [0, 1]; the encoder sees them clipped", name)
    return torch.stack(frames)
