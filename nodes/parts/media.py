"""What the nodes read from native wires: IMAGE batch or VIDEO -> uint8 frames, frame rate, references.

The encoder sees the whole source: nothing is cut here, Qwen's own resize rule is applied in
instructx_core.encoder.inputs.
Legend: F frames, H W pixels, 3 RGB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from ...instructx_core.errors import InputError
from .notes import Note, note


@dataclass(frozen=True)
class SourceClip:
    """frames_FHWC: uint8 (F, H, W, 3). fps: of a VIDEO, in Hz; None for an IMAGE batch, which carries none."""

    frames_FHWC: Tensor
    fps: float | None
    notes: tuple[Note, ...] = ()


def read_clip(source: Any) -> SourceClip:
    """IMAGE batch (F, H, W, 3) in [0, 1], or VIDEO. Raises InputError for anything else."""
    if isinstance(source, Tensor):
        return SourceClip(from_image(source, "source"), None, clipped_notes({"source": source}))
    if not hasattr(source, "get_components"):
        raise InputError(f"source is a {type(source).__name__}; connect an IMAGE (one or a batch) or a VIDEO")
    components = source.get_components()
    images = components.images
    return SourceClip(from_image(images, "source"), float(components.frame_rate), clipped_notes({"source": images}))


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


def checked_image(image: Tensor, name: str) -> Tensor:
    """A host's IMAGE (F, H, W, 3), as it is; an alpha channel is dropped, as the host's own loader does.

    Raises InputError for what is no picture, and for values that no pixel can have.
    """
    if image.ndim != 4 or 0 in image.shape:
        raise InputError(f"{name} has shape {tuple(image.shape)}; connect an IMAGE with at least one picture")
    if image.shape[-1] not in (3, 4) or not image.is_floating_point():
        kind = str(image.dtype).removeprefix("torch.")
        raise InputError(
            f"{name} has {image.shape[-1]} channel(s) of {kind}; an IMAGE has 3 or 4 of floats from 0 to 1 (Convert "
            "Mask to Image makes one of a mask)"
        )
    check_finite(image, name)
    return image[..., :3]


def check_finite(values: Tensor, name: str) -> None:
    """Raises InputError for NaN and infinity: a black picture would come of them, or nothing edited."""
    if not all(bool(torch.isfinite(part).all()) for part in values):  # one by one: a clip takes memory
        raise InputError(
            f"{name} has values that are no numbers (NaN or infinite), as an overflow in half precision makes them; "
            "run what makes it in fp32"
        )


def clipped_notes(wires: Mapping[str, Tensor | None]) -> tuple[Note, ...]:
    """A note for every IMAGE or MASK that goes out of 0 to 1 by half a level or more."""
    given = {name: value for name, value in sorted(wires.items()) if value is not None and value.numel()}
    low, high = -0.5 / 255, 1 + 0.5 / 255
    outside = (name for name, value in given.items() if value.min() < low or value.max() > high)
    return tuple(note("clipped", name=name) for name in outside)


def from_image(image: Tensor, name: str) -> Tensor:
    """A host's IMAGE -> uint8 frames, clipped to 256 levels. Raises InputError for what is no picture."""
    frames = [  # one by one: a clip in float takes four times the memory
        (frame_HWC * 255.0).round().clamp(0, 255).to("cpu", torch.uint8) for frame_HWC in checked_image(image, name)
    ]
    return torch.stack(frames)
