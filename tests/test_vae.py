"""The VAE helpers: the folded latent scale, the simple start."""

from __future__ import annotations

import dataclasses

import torch

from instructx_core.config import VaeConfig, tiny
from instructx_core.data.bucket import Bucket
from instructx_core.data.shapes import ShapesWorld
from instructx_core.latents import latent_stats
from instructx_core.pixels import to_signed
from instructx_core.training.vae_start import start_simple
from instructx_core.vae import build_vae, fold_latent_scale


def small() -> VaeConfig:
    return dataclasses.replace(tiny().vae, base_dim=8)


def randomised():
    torch.manual_seed(0)
    return build_vae(small()).eval()


@torch.no_grad()
def test_folding_gives_the_wan_statistics_and_the_same_pictures() -> None:
    vae, x = randomised(), torch.randn(4, 3, 5, 32, 32)
    before = vae.encode(x).latent_dist
    pixels = vae.decode(before.mode()).sample
    cells = before.mode().transpose(0, 1).flatten(1)
    fold_latent_scale(vae, cells.mean(1), cells.std(1))
    after = vae.encode(x).latent_dist
    wan_mean, wan_std = (torch.tensor(v) for v in latent_stats(16))
    cells = after.mode().transpose(0, 1).flatten(1)
    assert torch.allclose(cells.mean(1), wan_mean, atol=1e-3)
    assert torch.allclose(cells.std(1), wan_std, atol=1e-3)
    assert torch.allclose(vae.decode(after.mode()).sample, pixels, atol=1e-4)
    own_scale = wan_std / before.mode().transpose(0, 1).flatten(1).std(1)
    assert torch.allclose((after.std / before.std).mean((0, 2, 3, 4)), own_scale, rtol=1e-3)  # the noise scales too


def scene_batch(modality: str, frames: int, count: int) -> torch.Tensor:
    """(B,3,F,H,W) in [-1,1]."""
    world, bucket = ShapesWorld(), Bucket(modality, frames, 64, 64)
    return torch.cat(
        [to_signed(torch.from_numpy(world.scene("val", number, bucket).frames_FHWC)) for number in range(count)]
    )


@torch.no_grad()
def test_the_simple_start_already_shows_block_colours() -> None:
    torch.manual_seed(0)
    vae = build_vae(tiny().vae).eval()
    start_simple(vae)
    pixels = scene_batch("image", 1, 16)
    error = (vae.decode(vae.encode(pixels).latent_dist.mode()).sample - pixels).abs().mean((0, 2, 3, 4))
    assert error.max() < 0.16  # every colour; measured 0.115 at most on 64 pictures
    clip = scene_batch("video", 17, 2)
    frames = clip.transpose(1, 2).flatten(0, 1).unsqueeze(2)
    together = (vae.decode(vae.encode(clip).latent_dist.mode()).sample - clip).abs().mean()
    alone = (vae.decode(vae.encode(frames).latent_dist.mode()).sample - frames).abs().mean()
    assert together < 1.2 * alone  # a clip starts as its frames, motion within four of them aside
