"""The full-size shapes of the paper through every component, on fake tensors."""

from __future__ import annotations

import torch

from instructx_core.config import paper_14b
from instructx_core.costs.count import fake_tensors
from instructx_core.denoiser import build_denoiser
from instructx_core.encoder.designs import build_encoder
from instructx_core.encoder.inputs import EncoderInputs
from instructx_core.geometry import dit_tokens, latent_frames, latent_size, mllm_grid
from instructx_core.vae import build_vae, decode_latents, encode_latents


@torch.no_grad()
def test_paper_shapes_through_every_component():
    """Paper sizes: 81 frames of 480x832, 13 of them for the MLLM, one reference, 512 video queries."""
    config = paper_14b()
    with fake_tensors():
        encoder, denoiser, vae = build_encoder(config), build_denoiser(config), build_vae(config.vae)
        grid = mllm_grid(81, 480, 832, config, "video")
        reference_grid = mllm_grid(1, 512, 512, config, "reference")
        vision, other = (g[0] * g[1] * g[2] // 4 for g in (grid, reference_grid))
        length = 40 + vision + other + 512 + 2
        width = 1176
        inputs = EncoderInputs(
            input_ids_BL=torch.empty(1, length, dtype=torch.long),
            attention_mask_BL=torch.empty(1, length, dtype=torch.bool),
            position_ids_3BL=torch.empty(3, 1, length, dtype=torch.long),
            patches_BSP=torch.empty(1, 4 * vision, width),
            grid=grid,
            reference_patches_BSP=torch.empty(1, 4 * other, width),
            reference_grid=(reference_grid,),
            vision_start=35,
            reference_starts=(36 + vision,),
            query_start=length - 514,
            query_count=512,
            query_set="video",
            modality="video",
            temporal_step=1.0,
            padded=False,
        )
        context = encoder(inputs)
        assert grid[0] == 7 and context.shape == (1, 512, 5120)
        t, (h, w) = latent_frames(81), latent_size(480, 832, config)
        noise = torch.empty(1, 16, t, h, w)
        assert dit_tokens(81, 480, 832, config) == t * h * w // 4 == 32760
        out = denoiser(noise, torch.empty(1), context, noise, torch.empty(1, 16, 1, h, w)).sample
        assert out.shape == noise.shape
        video = torch.empty(1, 3, 9, 480, 832)  # the VAE walks in chunks of 4 frames: three chunks show the rule
        latent = encode_latents(vae, video)
        assert latent.shape == (1, 16, 3, 60, 104)
        assert decode_latents(vae, latent).shape == video.shape
