"""What a VAE lets through of real photos: the peak signal-to-noise ratio of round trips, on the path that edits take.

Place: photos, pipeline -> vae -> world. No edit can be nearer to the truth than that.
Shapes: frames_FHWC uint8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..pixels import to_uint8
from ..sampling.batch import edit_batch
from .photos import PHOTOS, crop, photo_of

if TYPE_CHECKING:
    from ..pipeline import InstructXPipeline

CROPS = 100  # ten of each photo


@torch.no_grad()
def round_trip(pipe: InstructXPipeline, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Encoded and decoded frames of clips of one size, uint8 (F, H, W, 3)."""
    latents_BCTHW = pipe.encode_pictures(edit_batch(list(clips), ["as it is"] * len(clips))).source
    return list(to_uint8(pipe.decode(latents_BCTHW, "pt").permute(0, 1, 3, 4, 2)).cpu().numpy())


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 arrays in dB; infinite where they are equal."""
    error = float(((a.astype(np.float64) - b) ** 2).mean())
    return math.inf if error == 0.0 else 10.0 * math.log10(255.0**2 / error)


def photos_psnr(pipe: InstructXPipeline, count: int = CROPS, batch_size: int = 16) -> list[float]:
    """Of that many crops, the photos taking turns."""
    found: list[float] = []
    for start in range(0, count, batch_size):
        numbers = range(start, min(count, start + batch_size))
        pictures = [crop(photo_of(number), number // len(PHOTOS))[None] for number in numbers]
        found.extend(psnr(a, b) for a, b in zip(pictures, round_trip(pipe, pictures), strict=True))
    return found
