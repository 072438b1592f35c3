"""The Wan VAE: built from a config, and its latent scale folded into its own weights.

Place in the data flow: pixels [-1,1] -> latent -> pixels. The model is diffusers' AutoencoderKLWan.
Legend: B batch, C channels, F pixel frames, T latent frames (F = 4(T-1)+1), H W.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from .config import VaeConfig
from .latents import denormalise_latents, latent_stats, normalise_latents
from .vae_layers import use_fast_layers


def build_vae(config: VaeConfig) -> AutoencoderKLWan:
    """Random weights; works under `torch.device("meta")`."""
    mean, std = latent_stats(config.z_dim)
    extra: dict[str, Any] = {}
    if config.decoder_base_dim is not None:
        extra["decoder_base_dim"] = config.decoder_base_dim
    vae = AutoencoderKLWan(
        base_dim=config.base_dim,
        z_dim=config.z_dim,
        dim_mult=list(config.dim_mult),
        num_res_blocks=config.num_res_blocks,
        temperal_downsample=list(config.temporal_downsample),
        latents_mean=list(mean),
        latents_std=list(std),
        is_residual=config.is_residual,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        patch_size=config.patch_size,
        scale_factor_temporal=config.scale_factor_temporal,
        scale_factor_spatial=config.scale_factor_spatial,
        **extra,
    )
    use_fast_layers(vae)
    return vae


def encode_latents(vae: AutoencoderKLWan, video_BCFHW: Tensor) -> Tensor:
    """Pixels (B, 3, F, H, W) in [-1, 1] -> normalised latents (B, C, T, h, w), fp32. The mean, nothing is sampled."""
    latent_BCTHW = vae.encode(video_BCFHW.to(vae.dtype), return_dict=False)[0].mode().float()
    return normalise_latents(latent_BCTHW, vae.config["latents_mean"], vae.config["latents_std"])


def decode_latents(vae: AutoencoderKLWan, latent_BCTHW: Tensor) -> Tensor:
    """Normalised latents -> pixels (B, 3, F, H, W) in [-1, 1], in the VAE's dtype."""
    latent_BCTHW = denormalise_latents(latent_BCTHW.float(), vae.config["latents_mean"], vae.config["latents_std"])
    return vae.decode(latent_BCTHW.to(vae.dtype), return_dict=False)[0]


@torch.no_grad()
def fold_latent_scale(vae: AutoencoderKLWan, mean_C: Tensor, std_C: Tensor) -> None:
    """Gives a VAE whose latents have the statistics `mean_C`, `std_C` those of the Wan format, in place.

    z' = (z - mean) / std * wan_std + wan_mean goes into the encoder's last convolution, its inverse into the decoder's
    first, so that native loaders, which normalise with Wan's constants, work unchanged. Decoded pictures stay the same.
    Its 1x1x1 convolutions (`quant_conv`, `post_quant_conv`) are the places: no padding, hence exact at the borders.
    """
    device, dtype = mean_C.device, torch.float64
    wan_mean, wan_std = (torch.tensor(v, device=device, dtype=dtype) for v in latent_stats(vae.config["z_dim"]))
    scale = wan_std / std_C.to(dtype)
    offset = wan_mean - mean_C.to(dtype) * scale
    z = vae.config["z_dim"]
    out: nn.Conv3d = vae.quant_conv
    out.weight[:z] = (out.weight[:z].to(dtype) * scale.view(-1, 1, 1, 1, 1)).to(out.weight.dtype)
    assert out.bias is not None
    out.bias[:z] = (out.bias[:z].to(dtype) * scale + offset).to(out.bias.dtype)
    out.bias[z:] += (2 * scale.log()).to(out.bias.dtype)  # log-variance of the scaled latent
    into: nn.Conv3d = vae.post_quant_conv
    assert into.bias is not None
    weight = into.weight.to(dtype)
    into.bias -= (weight * (offset / scale).view(1, -1, 1, 1, 1)).sum((1, 2, 3, 4)).to(into.bias.dtype)
    into.weight.copy_((weight / scale.view(1, -1, 1, 1, 1)).to(into.weight.dtype))
