"""Flow matching as free functions over tensors (paper 3.3: the objective of all stages).

x_sigma = (1 - sigma) x0 + sigma eps, target velocity v = eps - x0, timestep = 1000 sigma in fp32.
The paper gives neither the density of sigma, nor the shift, nor the loss weight: `wan` below is what DiffSynth-Studio
and Kiwi-Edit train with (uniform, shift 5, bell weight), `logit` what musubi-tuner and Megatron-Bridge use.

Legend: B batch, C channels, T latent frames, H W latent cells. sigma in [0,1], 1 = noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .recipes.flow import Density, Weighting


def shift_sigma(sigma: Tensor, shift: float) -> Tensor:
    """s*u / (1 + (s-1)*u); maps [0,1] to itself, shift 1 is the identity, larger shifts go towards noise."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def draw_sigma(count: int, *, density: Density, shift: float, generator: torch.Generator) -> Tensor:
    """(count,) fp32 sigmas in (0,1) of the given density, after the shift."""
    if density == "uniform":
        sigma = torch.rand(count, generator=generator)
    else:
        sigma = torch.randn(count, generator=generator).sigmoid()
    return shift_sigma(sigma, shift)


def bell_weight(sigma: Tensor) -> Tensor:
    """exp(-2 ((t-500)/1000)^2) with its minimum at the ends subtracted, mean 1 over uniform t (DiffSynth-Studio)."""
    grid = torch.linspace(0, 1, 1001, dtype=torch.float64)
    bell = torch.exp(-2 * (grid - 0.5) ** 2)
    low = bell.min()
    mean = (bell - low).mean()
    return ((torch.exp(-2 * (sigma.double() - 0.5) ** 2) - low) / mean).to(sigma.dtype)


def loss_weight(sigma: Tensor, weighting: Weighting) -> Tensor:
    """(B,) weight of each sample's squared error."""
    return bell_weight(sigma) if weighting == "bell" else torch.ones_like(sigma)


def noisy_latent(clean_BCTHW: Tensor, noise_BCTHW: Tensor, sigma_B: Tensor) -> Tensor:
    sigma = sigma_B.view(-1, 1, 1, 1, 1)
    return (1 - sigma) * clean_BCTHW + sigma * noise_BCTHW


def velocity_target(clean_BCTHW: Tensor, noise_BCTHW: Tensor) -> Tensor:
    return noise_BCTHW - clean_BCTHW


def velocity_loss(velocity_BCTHW: Tensor, target_BCTHW: Tensor, weight_B: Tensor) -> Tensor:
    """Weighted mean squared error over the batch, a scalar in fp32."""
    error_B = (velocity_BCTHW.float() - target_BCTHW.float()).pow(2).flatten(1).mean(1)
    return (error_B * weight_B).mean()
