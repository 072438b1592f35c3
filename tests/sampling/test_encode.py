"""Latents of sources and references: the mean, normalised, each reference by itself."""

from __future__ import annotations

import pytest
import torch
from tiny import clip, pipeline

from instructx_core.pipeline import InstructXPipeline
from instructx_core.pixels import as_references, to_signed
from instructx_core.sampling.batch import edit_batch
from instructx_core.vae import decode_latents, encode_latents


@pytest.fixture(scope="module")
def pipe() -> InstructXPipeline:
    return pipeline()


@torch.no_grad()
def test_vae_latents_are_the_normalised_mean(pipe):
    video = to_signed(clip())
    latent = encode_latents(pipe.vae, video)
    posterior = pipe.vae.encode(video).latent_dist
    mean, std = pipe.vae.config.latents_mean, pipe.vae.config.latents_std
    torch.testing.assert_close(latent[:, 3], (posterior.mean[:, 3] - mean[3]) / std[3])
    assert torch.equal(encode_latents(pipe.vae, video), latent)
    decoded = pipe.vae.decode(posterior.mean).sample
    torch.testing.assert_close(decode_latents(pipe.vae, latent), decoded, rtol=0, atol=1e-4)


def test_references_are_encoded_one_by_one(pipe):
    pictures = as_references([clip(1, 20, 30)[0], clip(1, 32, 48, seed=2)[0]])
    both = pipe.encode_pictures(edit_batch(clip(), reference=pictures)).references
    second = pipe.encode_pictures(edit_batch(clip(), reference=pictures[1:])).references
    assert both.shape == (1, 16, 2, 4, 6) and torch.equal(both[:, :, 1:], second)
