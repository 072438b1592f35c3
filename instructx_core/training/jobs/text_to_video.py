"""Pretraining of the tiny DiT: generate scenes from their captions (images and clips).

The DiT's own text_embedding takes the features of a small text encoder. Without this, stage 1 would align the MLLM to a
random DiT.
Legend: B batch, C channels, T latent frames, H W latent cells, L tokens, D width.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ...config import InstructXConfig, with_design
from ...data.bucket import Bucket
from ...data.cache import Cache, Pool, Selection, select_samples
from ...data.source import PretrainingSource
from ...denoiser import build_denoiser
from ...encoder.text_encoder import TextEncoder, tokenize
from ...errors import InputError
from ...sampling.guidance import Conditions, velocity
from ...vae import build_vae
from .. import rng
from ..job import GlobalBatch
from ..machine import Machine
from ..pictures import save_grid
from ..recipes.text_to_video import TextToVideoRecipe
from ..start import final_weights, load_into
from ..tokenizer import run_tokenizer
from .drawing import draw_batch
from .flow import decoded_frames, flow_loss, sample_latents, validation_loss

SHOWN = {"image": 8, "video": 1}


class TextToVideoJob:
    needs: ClassVar[type] = PretrainingSource

    def __init__(
        self,
        recipe: TextToVideoRecipe,
        config: InstructXConfig,
        source: PretrainingSource,
        output: Path,
        machine: Machine = Machine(),  # noqa: B008 - frozen
    ) -> None:
        self.recipe, self.config, self.device = recipe, config, machine.device
        self.tokenizer = run_tokenizer(output, config, source)
        torch.manual_seed(recipe.seed)
        self.vae = build_vae(config.vae)
        self.denoiser = build_denoiser(config)
        self.text = with_design(config, "t5").design.t5
        self.text_encoder = TextEncoder(self.text, config.denoiser.text_dim)
        self.root = nn.ModuleDict({"vae": self.vae, "denoiser": self.denoiser, "text_encoder": self.text_encoder})
        for required in recipe.requires:
            load_into(self.root, final_weights(output, required))
        self.vae.requires_grad_(False).eval()
        self.root.to(self.device)
        # The embedders of source and reference have no part in this.
        unused = ("denoiser.source_embedder", "denoiser.reference_embedder", "vae.")
        self.trainable = {n: p for n, p in self.root.named_parameters() if not n.startswith(unused)}
        counts = {("image", False): recipe.image_pool, ("video", False): recipe.video_pool}
        unseen = {("image", False): recipe.image_validation, ("video", False): recipe.video_validation}
        wanted = {kind: count for kind, count in unseen.items() if counts[kind]}
        cache = machine.cache(output, source)
        self.pools = self._pools(cache, select_samples(source, "train", counts, recipe.pool_start))
        self.validation = self._pools(cache, select_samples(source, "val", wanted))
        if not self.pools:
            raise InputError(f"{recipe.name} has no samples to train on: give image_pool or video_pool in the recipe")

    def _pools(self, cache: Cache, selections: list[Selection]) -> dict[Bucket, Pool]:
        return {each.bucket: cache.scenes(each, self.vae) for each in selections}

    def global_batch(self, step: int) -> GlobalBatch:
        return draw_batch(self.recipe, step, tuple(self.pools))

    def _conditions(self, texts: list[str]) -> Conditions:
        ids_BL, mask_BL = tokenize(self.tokenizer, texts, self.text)
        return Conditions(self.text_encoder(ids_BL.to(self.device), mask_BL.to(self.device)), text=True)

    def _clean(self, pool: Pool, rows: np.ndarray) -> Tensor:
        return pool.take("target", rows).to(self.device)

    def loss(self, step: int, batch: GlobalBatch, positions: range) -> Tensor:
        pool: Pool = self.pools[batch.bucket]
        indices = rng.draw_indices(self.recipe.seed, step, batch.size, len(pool))[positions.start : positions.stop]
        draws = rng.draw_texts(self.recipe.seed, step, batch.size)[positions.start : positions.stop]
        texts = [pool.text(row, draw)[0] for row, draw in zip(indices, draws, strict=True)]
        predict = partial(velocity, self.denoiser, self._conditions(texts))
        return flow_loss(self.recipe, step, batch.size, positions, self._clean(pool, indices), predict)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Velocity loss by modality, the mean of its sizes."""
        losses: dict[str, list[float]] = {}
        for bucket, pool in self.validation.items():
            predict = partial(velocity, self.denoiser, self._conditions(first_texts(pool, len(pool))))
            loss = validation_loss(self._clean(pool, np.arange(len(pool))), predict)
            losses.setdefault(bucket.modality, []).append(loss)
        return {modality: sum(values) / len(values) for modality, values in losses.items()}

    @torch.no_grad()
    def picture(self, path: Path | None) -> None:
        """Top: validation scenes. Below: what the model makes from their captions; then frames of one clip."""
        rows = []
        for bucket, pool in self.validation.items():
            count = min(SHOWN[bucket.modality], len(pool))
            clean = self._clean(pool, np.arange(count))
            conditions = self._conditions(first_texts(pool, count))
            made = sample_latents(self.denoiser, conditions, clean, self.config)
            for latents in (clean, made):
                frames = decoded_frames(self.vae, self.config.vae, latents)
                frames = frames.reshape(-1, *frames.shape[2:])
                rows.append(list(frames[:: max(1, len(frames) // 8)])[:8])
        save_grid(path, rows)

    def finish(self) -> None:
        """Nothing to change."""


def first_texts(pool: Pool, count: int) -> list[str]:
    return [pool.text(row)[0] for row in range(count)]
