"""Latents of the VAE <-> those of the DiT."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLWan
from tiny import draw

from instructx_core.errors import InputError
from instructx_core.latents import denormalise_latents, latent_stats, normalise_latents


def test_wan21_statistics_are_those_of_diffusers():
    with torch.device("meta"):
        config = AutoencoderKLWan().config
    mean, std = latent_stats(16)
    assert list(mean) == config.latents_mean and list(std) == config.latents_std


@pytest.mark.parametrize("channels", [16, 48])
def test_normalise_round_trip(channels):
    mean, std = latent_stats(channels)
    assert len(mean) == len(std) == channels and min(std) > 0
    latent = draw(2, channels, 3, 4, 5)
    normal = normalise_latents(latent, mean, std)
    assert torch.allclose(normal[:, 1], (latent[:, 1] - mean[1]) / std[1])
    torch.testing.assert_close(denormalise_latents(normal, mean, std), latent, rtol=1e-6, atol=1e-6)
    half = normalise_latents(latent.bfloat16(), mean, std)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), normal, rtol=2e-2, atol=2e-2)


def test_statistics_of_another_vae_are_refused():
    with pytest.raises(InputError, match="16 channels"):
        normalise_latents(draw(1, 16, 1, 2, 2), *latent_stats(48))
    with pytest.raises(InputError, match="no latent statistics for 4"):
        latent_stats(4)
