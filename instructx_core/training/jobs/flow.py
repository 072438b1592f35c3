"""What the two jobs share that train a DiT: the loss of a batch, the validation grid and a plain Euler loop.

Legend: B batch, C channels, T latent frames, H W latent cells.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from ...sampling.schedule import flow_sigmas, shift_sigmas
from .. import rng
from ..objective import draw_sigma, loss_weight, noisy_latent, velocity_loss, velocity_target
from ..recipes.flow import FlowRecipe

VALIDATION_SIGMAS = tuple((i + 0.5) / 8 for i in range(8))
SAMPLE_STEPS = 8

Velocity = Callable[[Tensor, Tensor], Tensor]  # (noisy_BCTHW, timestep_B) -> velocity_BCTHW


def flow_loss(
    recipe: FlowRecipe, step: int, size: int, positions: range, clean_BCTHW: Tensor, velocity: Velocity
) -> Tensor:
    """Loss of these positions of a global batch of `size`; sigma and noise depend on (seed, step, position) only."""
    generator = rng.torch_generator(recipe.seed, step, rng.NOISE)
    sigma = draw_sigma(size, density=recipe.density, shift=recipe.shift, generator=generator)
    sigma_B = sigma[positions.start : positions.stop].to(clean_BCTHW.device)
    noise = rng.draw_noise(recipe.seed, step, positions, tuple(clean_BCTHW.shape[1:])).to(clean_BCTHW.device)
    predicted = velocity(noisy_latent(clean_BCTHW, noise, sigma_B), sigma_B * 1000)
    return velocity_loss(predicted, velocity_target(clean_BCTHW, noise), loss_weight(sigma_B, recipe.weighting))


def validation_loss(clean_BCTHW: Tensor, velocity: Velocity) -> float:
    """Mean squared velocity error over eight fixed sigmas and fixed noise: comparable between runs and designs."""
    count = len(clean_BCTHW)
    noise = rng.draw_noise(0, 0, range(count), tuple(clean_BCTHW.shape[1:])).to(clean_BCTHW.device)
    total = 0.0
    for value in VALIDATION_SIGMAS:
        sigma_B = torch.full((count,), value, device=clean_BCTHW.device)
        predicted = velocity(noisy_latent(clean_BCTHW, noise, sigma_B), sigma_B * 1000)
        total += velocity_loss(predicted, velocity_target(clean_BCTHW, noise), torch.ones_like(sigma_B)).item()
    return total / len(VALIDATION_SIGMAS)


def euler(velocity: Velocity, shape: tuple[int, ...], shift: float, steps: int = SAMPLE_STEPS) -> Tensor:
    """A batch of clean latents from fixed noise; sample b's noise doesn't depend on the batch."""
    x = rng.draw_noise(0, 1, range(shape[0]), shape[1:])
    sigmas = [*shift_sigmas(flow_sigmas(steps), shift).tolist(), 0.0]
    for sigma, following in pairwise(sigmas):
        x = x + velocity(x, torch.full((shape[0],), sigma * 1000)) * (following - sigma)
    return x
