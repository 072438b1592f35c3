"""What recipes of flow matching share: the noise levels they draw, and how much of the source is encoded once.

Between base.py and the two kinds that train a DiT (text_to_video.py, edit.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .base import Recipe

Density = Literal["uniform", "logit_normal"]
Weighting = Literal["none", "bell"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowRecipe(Recipe):
    """Pools are samples in the cache of latents, shared evenly by all buckets of a kind; 0: none are trained on."""

    density: Density = "uniform"  # not in paper
    shift: float = 5.0  # not in paper
    weighting: Weighting = "bell"  # not in paper
    image_pool: int = 0
    video_pool: int = 0
    pool_start: int = 0  # first sample number of the pools, so that two stages can see different data
