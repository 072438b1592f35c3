"""Pure tensor functions of source and references."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLWan
from tiny import draw

from instructx_core import conditioning as cond
from instructx_core.errors import InputError


def test_wan21_statistics_are_those_of_diffusers():
    with torch.device("meta"):
        config = AutoencoderKLWan().config
    mean, std = cond.latent_stats(16)
    assert list(mean) == config.latents_mean and list(std) == config.latents_std


@pytest.mark.parametrize("channels", [16, 48])
def test_normalise_round_trip(channels):
    mean, std = cond.latent_stats(channels)
    assert len(mean) == len(std) == channels and min(std) > 0
    latent = draw(2, channels, 3, 4, 5)
    normal = cond.normalise_latents(latent, mean, std)
    assert torch.allclose(normal[:, 1], (latent[:, 1] - mean[1]) / std[1])
    torch.testing.assert_close(cond.denormalise_latents(normal, mean, std), latent, rtol=1e-6, atol=1e-6)
    half = cond.normalise_latents(latent.bfloat16(), mean, std)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), normal, rtol=2e-2, atol=2e-2)


def test_statistics_of_another_vae_are_refused():
    with pytest.raises(InputError, match="16 channels"):
        cond.normalise_latents(draw(1, 16, 1, 2, 2), *cond.latent_stats(48))
    with pytest.raises(InputError, match="no latent statistics for 4"):
        cond.latent_stats(4)


def test_tokens_round_trip():
    grid, patch = (3, 2, 4), (1, 2, 2)
    latent = draw(2, 5, 3, 4, 8)
    cells = latent.unfold(3, 2, 2).unfold(4, 2, 2)  # b c t h w q r
    token = cells.permute(0, 2, 3, 4, 5, 6, 1).reshape(2, 24, 20)
    assert torch.equal(cond.from_tokens(token, grid, patch), latent)
    embedded = draw(2, 6, 3, 2, 4)
    token = cond.to_tokens(embedded)
    assert token.is_contiguous() and torch.equal(token[:, 1 * 8 + 1 * 4 + 2], embedded[:, :, 1, 1, 2])


@pytest.mark.parametrize("position", ["last", "first"])
def test_join_and_drop_are_inverse(position):
    video, reference = draw(2, 6, 3), draw(2, 4, 3, seed=1)
    joined = cond.join_references(video, reference, position)
    assert joined.shape == (2, 10, 3)
    assert torch.equal(cond.drop_references(joined, 6, position), video)
    start = 6 if position == "last" else 0
    assert torch.equal(joined[:, start : start + 4], reference)
    assert cond.join_references(video, None, position) is video
    assert torch.equal(cond.drop_references(video, 6, position), video)


def test_source_scale():
    embedded = draw(2, 3, 1, 2, 2)
    sigma = torch.tensor([0.0, 0.5])
    assert cond.scale_source(embedded, sigma, "none") is embedded
    scaled = cond.scale_source(embedded, sigma, "sigma")
    assert not scaled[0].any() and torch.equal(scaled[1], embedded[1] * 0.5)


def test_own_embedder_is_zero():
    embedder = cond.latent_embedder(16, 8, (1, 2, 2))
    assert not embedder(draw(1, 16, 2, 4, 4)).any()


def test_importing_it_loads_no_model_library():
    import subprocess
    import sys

    code = (
        "import sys, instructx_core.conditioning; assert not {'diffusers', 'transformers', 'peft'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
