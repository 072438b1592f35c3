"""Pretraining of the tiny DiT: generate scenes of the procedural world from their captions (images and clips).

The DiT's own text_embedding takes the features of a small text encoder. Without this, stage 1 would align the MLLM to a
random DiT. Clips in the style and segmentation looks are left out (shapes.looks_of).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..config import InstructXConfig
from ..denoiser import build_denoiser
from ..vae import build_vae, decode_latents, speed_up_single_frames
from . import rng
from .flow_job import draw_bucket, euler, flow_loss, validation_loss
from .pictures import save_grid, to_uint8
from .pools import Pool, scene_pool
from .recipes import Recipe
from .start import final_weights, load_into
from .text_encoder import TextEncoder, tokenize
from .trainer import Bucket
from .world_text import world_tokenizer

VALIDATION = {"image": 64, "video": 16}


class TextToVideoJob:
    def __init__(self, recipe: Recipe, config: InstructXConfig, output: Path) -> None:
        self.recipe, self.config = recipe, config
        self.tokenizer = world_tokenizer(output, config)
        torch.manual_seed(recipe.seed)
        self.vae = build_vae(config.vae)
        self.denoiser = build_denoiser(config)
        self.text_encoder = TextEncoder(config.mllm.vocab_size, config.denoiser.text_dim)
        self.root = nn.ModuleDict({"vae": self.vae, "denoiser": self.denoiser, "text_encoder": self.text_encoder})
        for required in recipe.requires:
            load_into(self.root, final_weights(output, required))
        speed_up_single_frames(self.vae)
        self.vae.requires_grad_(False).eval()
        # The embedders of source and reference have no part in this.
        unused = ("denoiser.source_embedder", "denoiser.reference_embedder", "vae.")
        self.trainable = {n: p for n, p in self.root.named_parameters() if not n.startswith(unused)}
        counts = {"image": recipe.image_pool, "video": recipe.video_pool}
        self.pools = {
            modality: scene_pool(output, self.vae, split="train", modality=modality, start=0, count=count)
            for modality, count in counts.items()
            if count
        }
        self.validation = {
            modality: scene_pool(output, self.vae, split="val", modality=modality, start=0, count=VALIDATION[modality])
            for modality in self.pools
        }

    def bucket(self, step: int) -> Bucket:
        return draw_bucket(self.recipe, step, "video" in self.pools, set())

    def _velocity(self, texts: list[str]):
        features_BLD = self.text_encoder(*tokenize(self.tokenizer, texts))

        def velocity(noisy_BCTHW: Tensor, timestep_B: Tensor) -> Tensor:
            return self.denoiser(noisy_BCTHW, timestep_B, features_BLD, text=True, return_dict=False)[0]

        return velocity

    def loss(self, step: int, bucket: Bucket, positions: range) -> Tensor:
        pool: Pool = self.pools[bucket.modality]
        indices = rng.draw_indices(self.recipe.seed, step, bucket.batch, len(pool))[positions.start : positions.stop]
        texts = [pool.texts[i] for i in indices]
        clean = pool.take("target", indices)
        return flow_loss(self.recipe, step, bucket, positions, clean, self._velocity(texts))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        return {
            modality: validation_loss(pool.take("target", np.arange(len(pool))), self._velocity(pool.texts))
            for modality, pool in self.validation.items()
        }

    @torch.no_grad()
    def picture(self, path: Path) -> None:
        """Top: validation scenes. Below: what the model makes from their captions; then frames of one clip."""
        rows = []
        for modality, pool in self.validation.items():
            count = 8 if modality == "image" else 1
            clean = pool.take("target", np.arange(count))
            made = euler(self._velocity(pool.texts[:count]), tuple(clean.shape), self.config.sampling.shift)
            for latents in (clean, made):
                frames = to_uint8(decode_latents(self.vae, latents).permute(0, 2, 3, 4, 1))
                frames = frames.reshape(-1, *frames.shape[2:])
                rows.append(list(frames[:: max(1, len(frames) // 8)])[:8])
        save_grid(path, rows)

    def finish(self) -> None:
        """Nothing to change."""
