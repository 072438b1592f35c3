"""What the two jobs share that train a DiT: the loss of a batch, the validation grid, and samples to look at.

Legend: B batch, C channels, T latent frames, H W latent cells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...config import InstructXConfig, VaeConfig
from ...denoiser import InstructXTransformer3DModel
from ...pixels import from_signed
from ...sampling.decode import decode_video
from ...sampling.denoise import denoise
from ...sampling.guidance import Conditions
from ...sampling.noise import initial_noise
from ...sampling.schedule import build_scheduler, start
from ...speed.memory import MemoryPlan
from .. import rng
from ..objective import draw_sigma, loss_weight, noisy_latent, velocity_loss, velocity_target
from ..recipes.flow import FlowRecipe

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

VALIDATION_SIGMAS = tuple((i + 0.5) / 8 for i in range(8))
SAMPLE_STEPS = 8

Velocity = Callable[[Tensor, Tensor], Tensor]  # (noisy_BCTHW, timestep_B) -> velocity_BCTHW


def flow_loss(
    recipe: FlowRecipe, step: int, size: int, positions: range, clean_BCTHW: Tensor, velocity: Velocity
) -> Tensor:
    """Loss of these positions of a global batch of `size`."""
    sigma_B, noise = draw_levels(recipe, step, size, positions, clean_BCTHW)
    predicted = velocity(noisy_latent(clean_BCTHW, noise, sigma_B), sigma_B * 1000)
    return velocity_loss(predicted, velocity_target(clean_BCTHW, noise), loss_weight(sigma_B, recipe.weighting))


def draw_levels(
    recipe: FlowRecipe, step: int, size: int, positions: range, clean_BCTHW: Tensor
) -> tuple[Tensor, Tensor]:
    """sigma (B,) and noise of these positions of a global batch of `size`; from (seed, step, position) only."""
    generator = rng.torch_generator(recipe.seed, step, rng.NOISE)
    sigma = draw_sigma(size, density=recipe.density, shift=recipe.shift, generator=generator)
    noise = rng.draw_noise(recipe.seed, step, positions, tuple(clean_BCTHW.shape[1:]))
    return sigma[positions.start : positions.stop].to(clean_BCTHW.device), noise.to(clean_BCTHW.device)


def fixed_noise(like_BCTHW: Tensor, stream: int) -> Tensor:
    """What a validation draws: a sample's noise doesn't depend on its batch, and is the same in every run."""
    return initial_noise(like_BCTHW, [rng.torch_generator(0, stream, rng.NOISE, p) for p in range(len(like_BCTHW))])


def validation_loss(clean_BCTHW: Tensor, velocity: Velocity) -> float:
    """Mean squared velocity error over eight fixed sigmas and fixed noise: comparable between runs and designs."""
    count, noise = len(clean_BCTHW), fixed_noise(clean_BCTHW, 0)
    total = 0.0
    for value in VALIDATION_SIGMAS:
        sigma_B = torch.full((count,), value, device=clean_BCTHW.device)
        predicted = velocity(noisy_latent(clean_BCTHW, noise, sigma_B), sigma_B * 1000)
        total += velocity_loss(predicted, velocity_target(clean_BCTHW, noise), torch.ones_like(sigma_B)).item()
    return total / len(VALIDATION_SIGMAS)


def sample_latents(
    model: InstructXTransformer3DModel,
    conditions: Conditions,
    target_BCTHW: Tensor,
    config: InstructXConfig,
    steps: int = SAMPLE_STEPS,
) -> Tensor:
    """A batch of clean latents of the target's shape from fixed noise, without guidance."""
    scheduler = build_scheduler(config)
    levels = start(scheduler, steps, target_BCTHW.device)
    return denoise(model, scheduler, fixed_noise(target_BCTHW, 1), conditions, levels)


def decoded_frames(vae: AutoencoderKLWan, config: VaeConfig, latents_BCTHW: Tensor) -> np.ndarray:
    """Latents -> frames (N, F, H, W, 3) uint8, as an edit decodes them."""
    video_BCFHW = decode_video(vae, config, latents_BCTHW, MemoryPlan(), vae.device)
    return from_signed(video_BCFHW).permute(0, 2, 3, 4, 1).cpu().numpy()
