"""The recipe of a VAE: reconstruct pictures and clips (jobs/vae.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from .base import Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class VaeRecipe(Recipe):
    """Not in the paper, whose VAE is Wan's."""

    job: ClassVar[str] = "vae"

    part: Literal["whole", "decoder"] = "whole"  # decoder: the latents, and all that was trained on them, stay valid
    pictures: Literal["scenes", "edits"] = "scenes"  # edits: targets of edits and references as well, region by region
    muon_scale: float = 0.0  # convolutions train with Muon at this multiple of learning_rate; 0: with AdamW as the rest
    crop: int = 0  # side in pixels of the crops of all but the last sixth of the steps; 0: whole frames
