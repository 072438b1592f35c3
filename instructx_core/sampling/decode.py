"""Edited latents -> pixels, in tiles where whole frames do not fit into memory. The last step of the data flow.

Legend: B batch, F pixel frames, T latent frames, C channels, H W.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from ..config import VaeConfig
from ..geometry import pixel_frames
from ..latents import denormalise_latents
from ..speed.memory import MemoryPlan
from ..speed.tiling import VideoShape, decode_tiled
from ..vae import decode_latents


def decode_video(
    vae: AutoencoderKLWan, config: VaeConfig, latents_BCTHW: Tensor, memory: MemoryPlan, device: torch.device
) -> Tensor:
    """Normalised latents -> pixels (B, 3, F, H, W) in [-1, 1], or a little outside; in tiles fp32, on the CPU.

    Raises FloatingPointError for pixels that are not finite.
    """
    batch, _, t, h, w = latents_BCTHW.shape
    cell = config.scale_factor_spatial
    shape = VideoShape(batch, pixel_frames(t, config.scale_factor_temporal), h * cell, w * cell)
    latents_BCTHW = latents_BCTHW.to(device)
    with memory.vae(config, vae.dtype, shape, device) as tiling:
        if tiling is None:
            video_BCFHW = decode_latents(vae, latents_BCTHW)
        else:
            mean, std = vae.config["latents_mean"], vae.config["latents_std"]
            video_BCFHW = decode_tiled(vae, denormalise_latents(latents_BCTHW.float(), mean, std), tiling, device)
    if not torch.isfinite(video_BCFHW).all():
        raise FloatingPointError(f"pixels of the VAE are not finite ({vae.dtype}); use bfloat16 or float32")
    return video_BCFHW
