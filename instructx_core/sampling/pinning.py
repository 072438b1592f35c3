"""Frames that are edited already stay as they are while the rest of a clip is sampled: noise mask of the first latents.

Between scheduler and DiT in every step: the pinned frames are the clean latent, noised to the level of the step along
one path, x_sigma = (1 - sigma) x0 + sigma eps; at the end they are x0. The other frames see them through attention.
Windows of a long edit need it (editing/windows): the model would edit the edited frame it is handed a second time.
Legend: B batch, C channels, T latent frames, P the first of them, H W.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError


@dataclass(frozen=True, slots=True)
class PinnedFrames:
    """The first P latent frames: what they are in the end, and the noise that they started from."""

    clean_BCPHW: Tensor
    noise_BCPHW: Tensor


def pin_source(source_BCTHW: Tensor, noise_BCTHW: Tensor, count: int) -> PinnedFrames | None:
    """The first `count` latent frames of the source, None for 0. Raises InputError unless a frame is left to sample."""
    frames = source_BCTHW.shape[2]
    if not 0 <= count < frames:
        raise InputError(f"pinned is {count}; of {frames} latent frames 0 to {frames - 1} can be pinned")
    return PinnedFrames(source_BCTHW[:, :, :count].float(), noise_BCTHW[:, :, :count]) if count else None


def pin(latents_BCTHW: Tensor, pinned: PinnedFrames | None, sigma: Tensor | float) -> Tensor:
    """The latents with their first P frames at noise level sigma in [0, 1]; unchanged where nothing is pinned."""
    if pinned is None:
        return latents_BCTHW
    first_BCPHW = (1.0 - sigma) * pinned.clean_BCPHW + sigma * pinned.noise_BCPHW
    return torch.cat((first_BCPHW.to(latents_BCTHW), latents_BCTHW[:, :, first_BCPHW.shape[2] :]), dim=2)
