"""Frames that are edited already stay as they are while the rest of a clip is sampled: noise mask of the first latents.

Between scheduler and DiT in every step: the pinned frames are the clean latent, noised to the level of the step along
one path, x_sigma = (1 - sigma) x0 + sigma eps; at the end they are x0. The other frames see them through attention.
Windows of a long edit need it (long_video): the model would edit the edited frame it is handed a second time.
Legend: B batch, C channels, T latent frames, P the first of them, H W.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError


def check_pinned(source_BCTHW: Tensor, count: int) -> Tensor | None:
    """The first `count` latent frames of the source, None for 0. Raises InputError unless a frame is left to sample."""
    frames = source_BCTHW.shape[2]
    if not 0 <= count < frames:
        raise InputError(f"pinned is {count}; of {frames} latent frames 0 to {frames - 1} can be pinned")
    return source_BCTHW[:, :, :count].float() if count else None


def pin(latents_BCTHW: Tensor, clean_BCPHW: Tensor | None, noise_BCTHW: Tensor, sigma: Tensor | float) -> Tensor:
    """The latents with their first P frames at noise level sigma in [0, 1]; unchanged where nothing is pinned."""
    if clean_BCPHW is None:
        return latents_BCTHW
    count = clean_BCPHW.shape[2]
    held_BCPHW = (1.0 - sigma) * clean_BCPHW + sigma * noise_BCTHW[:, :, :count]
    return torch.cat((held_BCPHW.to(latents_BCTHW), latents_BCTHW[:, :, count:]), dim=2)
