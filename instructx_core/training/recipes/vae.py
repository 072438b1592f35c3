"""The recipe of a VAE: reconstruct pictures and clips (jobs/vae.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Recipe


@dataclass(frozen=True, slots=True)
class Crops:
    """A part of a run: the side in pixels of its crops (0: whole frames), its share of the steps, its batches."""

    side: int
    share: float
    image_batch: int
    video_batch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class VaeRecipe(Recipe):
    """Not in the paper, whose VAE is Wan's. Pools are pictures drawn once, shared evenly by all sizes."""

    job: ClassVar[str] = "vae"

    image_pool: int = 0
    video_pool: int = 0
    crops: tuple[Crops, ...] = ()  # in this order; what is left of the steps sees whole frames in the recipe's batches
