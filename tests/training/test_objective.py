"""Flow-matching formulas against their closed forms."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from instructx_core.sampling.schedule import flow_sigmas, shift_sigmas
from instructx_core.training.objective import (
    bell_weight,
    draw_sigma,
    loss_weight,
    noisy_latent,
    shift_sigma,
    velocity_loss,
    velocity_target,
)


def test_shift_keeps_the_ends_and_moves_the_middle() -> None:
    sigma = torch.tensor([0.0, 0.5, 1.0])
    assert shift_sigma(sigma, 5.0).tolist() == pytest.approx([0.0, 5 * 0.5 / 3.0, 1.0])
    assert torch.equal(shift_sigma(sigma, 1.0), sigma)


def test_bell_weight_has_mean_one_and_vanishes_at_the_ends() -> None:
    weight = bell_weight(torch.linspace(0, 1, 1001, dtype=torch.float64))
    assert weight.mean().item() == pytest.approx(1.0, abs=1e-9)
    assert weight[0].item() == pytest.approx(0.0, abs=1e-9)
    assert weight.argmax().item() == 500


def test_no_weighting_is_one() -> None:
    assert torch.equal(loss_weight(torch.rand(3), "none"), torch.ones(3))


@pytest.mark.parametrize("density", ["uniform", "logit_normal"])
def test_sigmas_lie_inside_and_repeat(density) -> None:
    def draw() -> torch.Tensor:
        return draw_sigma(2000, density=density, shift=3.0, generator=torch.Generator().manual_seed(1))

    sigma = draw()
    assert sigma.min() >= 0 and sigma.max() <= 1
    assert torch.equal(sigma, draw())
    middle = shift_sigma(torch.tensor(0.5), 3.0).item()  # both densities have their median at 0.5 before the shift
    assert sigma.median().item() == pytest.approx(middle, abs=0.03)


def test_euler_with_the_exact_velocity_recovers_the_clean_latent() -> None:
    clean, noise = torch.randn(2, 4, 1, 3, 3), torch.randn(2, 4, 1, 3, 3)
    x, velocity = noise, velocity_target(clean, noise)
    sigmas = [*shift_sigmas(flow_sigmas(7), 5.0).tolist(), 0.0]
    for sigma, following in pairwise(sigmas):
        assert torch.allclose(x, noisy_latent(clean, noise, torch.full((2,), sigma)), atol=1e-5)
        x = x + velocity * (following - sigma)
    assert torch.allclose(x, clean, atol=1e-5)


def test_velocity_loss_weighs_samples() -> None:
    target = torch.zeros(2, 1, 1, 2, 2)
    velocity = torch.stack([torch.ones(1, 1, 2, 2), 2 * torch.ones(1, 1, 2, 2)])
    assert velocity_loss(velocity, target, torch.tensor([1.0, 0.5])).item() == pytest.approx((1 * 1 + 0.5 * 4) / 2)
