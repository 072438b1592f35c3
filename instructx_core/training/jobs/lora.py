"""An artist's own edit: LoRA beside a frozen model, taught by pairs and held to what the model says otherwise.

Encoder and VAE encode everything once and leave the card; the DiT comes then (lora/base.py). A row of a batch is either
a pair under its instruction, with the loss of a stage, or its source under another instruction: there the velocity is
held to that of the model without LoRA, on the way to what that model makes of it. Validation: both on held-out pairs.
Legend: B batch, C channels, T latent frames, F frames, H W latent cells or pixels, L tokens, D width.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ...config import LORA_TARGETS
from ...data.bucket import Bucket
from ...data.cache import Pool
from ...data.records import Records
from ...data.source import StoredSource
from ...encoder.context_encoder import ContextEncoder
from ...precision import dtype_of
from ...random_streams import random_stream
from ...sampling.guidance import Conditions, velocity
from .. import rng
from ..edit_pools import plan_pools
from ..job import GlobalBatch
from ..lora.base import TaughtModel
from ..lora.branches import DIT_LINEARS, add_branches, branches_off
from ..lora.contexts import ContextTable, KeptEdits, RowTexts, TableKey, build_contexts, build_kept, row_texts
from ..machine import CPU, Machine
from ..objective import loss_weight, noisy_latent, velocity_loss, velocity_target
from ..pictures import save_grid
from ..recipes.lora import LoraRecipe
from .drawing import draw_batch
from .encoded import encode_context, take_batch
from .flow import SAMPLE_STEPS, decoded_frames, draw_levels, sample_latents, validation_loss

logger = logging.getLogger("instructx")

SHOWN = 6  # held-out pairs of each bucket on a sheet


class LoraJob:
    needs: ClassVar[type] = StoredSource

    def __init__(self, recipe: LoraRecipe, model: TaughtModel, source: Records, output: Path, machine: Machine) -> None:
        self.recipe, self.config, self.source, self.device = recipe, model.config, source, machine.device
        self.dtype = dtype_of(recipe.precision, machine.device)
        plan = plan_pools(recipe, source)
        self.vae, encoder, self.tokenizer = model.encoders(self.dtype, self.device)
        cache = machine.cache(output, source)
        pools = plan.fill(cache, self.vae, encoder)
        self.pools, self.rows, self.shares, self.validation = pools.train, pools.rows, pools.shares, pools.validation
        self.vae.to(CPU)
        self.encoder: ContextEncoder | None = encoder
        self.trainable: dict[str, nn.Parameter] = {}
        self.wordings = {id(pool): self._texts(pool) for pool in (*self.pools.values(), *self.validation.values())}
        self.tables: dict[int, ContextTable] = {}
        if recipe.mllm_rank:
            language = encoder.mllm.language_model
            scale = recipe.alpha * recipe.mllm_rank / recipe.rank
            added = add_branches(language, LORA_TARGETS, recipe.mllm_rank, scale, recipe.seed)
            self.trainable |= {f"encoder.mllm.language_model.{name}": each for name, each in added.items()}
        else:
            for bucket, pool in (*self.pools.items(), *self.validation.items()):
                encode = partial(self._encoded, pool, bucket)
                self.tables[id(pool)] = build_contexts(self._key(cache.folder, bucket, pool), encode)
            self.encoder = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.denoiser = model.denoiser(self.dtype, self.device)
        if machine.engine.recompute:
            self.denoiser.enable_gradient_checkpointing()
        added = add_branches(self.denoiser, DIT_LINEARS, recipe.rank, recipe.alpha, recipe.seed)
        self.trainable |= {f"denoiser.{name}": each for name, each in added.items()}
        self._before: dict[Bucket, np.ndarray] = {}
        self.kept: dict[int, KeptEdits] = {}
        if recipe.keep_share:
            for bucket, pool in self.pools.items():  # B is zero: the model is what it was
                at_once = recipe.micro_image_batch if bucket.modality == "image" else recipe.micro_video_batch
                key, edit = self._key(cache.folder, bucket, pool), partial(self._latents, pool, bucket)
                self.kept[id(pool)] = build_kept(key, edit, at_once)

    def _key(self, folder: Path, bucket: Bucket, pool: Pool) -> TableKey:
        mark = f"{self.recipe.base} {self.recipe.precision} {self.config.to_json()}"
        return TableKey(folder, mark, bucket, pool, self.wordings[id(pool)])

    def _texts(self, pool: Pool) -> RowTexts:
        return row_texts(pool, self.recipe.keep, self.recipe.keep_each, self.recipe.seed)

    # --- one batch ---

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def _encoded(self, pool: Pool, bucket: Bucket, rows: np.ndarray, texts: list[str]) -> Tensor:
        assert self.encoder is not None
        with self._autocast():
            batch = take_batch(pool, bucket, rows, texts, self.encoder, False)
            return encode_context(self.encoder, self.tokenizer, self.config, batch)

    def conditions(self, pool: Pool, bucket: Bucket, rows: np.ndarray, choices: np.ndarray) -> Conditions:
        """Of rows of a pool, each under one of its texts."""
        if self.encoder is None:
            context_BLD = self.tables[id(pool)].take(rows, choices).to(self.device)
        else:
            context_BLD = self._encoded(pool, bucket, rows, self.wordings[id(pool)].chosen(rows, choices))
        source = pool.take("source", rows).to(self.device)
        references = pool.take("reference", rows).to(self.device) if bucket.reference else None
        return Conditions(context_BLD, source=source, references=references)

    def _velocity(self, conditions: Conditions, noisy_BCTHW: Tensor, timestep_B: Tensor) -> Tensor:
        with self._autocast():
            return velocity(self.denoiser, conditions, noisy_BCTHW, timestep_B).float()

    def _without(self) -> AbstractContextManager[None]:
        return branches_off(self.denoiser, *(() if self.encoder is None else (self.encoder,)))

    def global_batch(self, step: int) -> GlobalBatch:
        shares = self.shares and {bucket: float(each.sum()) for bucket, each in self.shares.items()}
        return draw_batch(self.recipe, step, tuple(self.rows), self.recipe.reference_probability, shares)

    def loss(self, step: int, batch: GlobalBatch, positions: range) -> Tensor:
        recipe, bucket = self.recipe, batch.bucket
        pool, own = self.pools[bucket], self.rows[bucket]
        shares, part = self.shares and self.shares[bucket], slice(positions.start, positions.stop)
        rows = own[rng.draw_indices(recipe.seed, step, batch.size, len(own), shares)][part]
        draws = rng.draw_texts(recipe.seed, step, batch.size)[part]
        kept = (random_stream(recipe.seed, step, rng.KEPT).random(batch.size) < recipe.keep_share)[part]
        choices = self.wordings[id(pool)].choose(rows, draws, kept)
        kept_B = torch.from_numpy(kept).to(self.device)
        conditions = self.conditions(pool, bucket, rows, choices)
        clean = pool.take("target", rows).to(self.device)
        if kept.any():
            clean[kept_B] = self.kept[id(pool)].take(rows[kept], choices[kept]).to(self.device)
        sigma_B, noise = draw_levels(recipe, step, batch.size, positions, clean)
        noisy = noisy_latent(clean, noise, sigma_B)
        wanted = velocity_target(clean, noise)
        if kept.any():
            with torch.no_grad(), self._without():
                same = self.conditions(pool, bucket, rows[kept], choices[kept])
                wanted[kept_B] = self._velocity(same, noisy[kept_B], sigma_B[kept_B] * 1000)
        predicted = self._velocity(conditions, noisy, sigma_B * 1000)
        return velocity_loss(predicted, wanted, loss_weight(sigma_B, recipe.weighting))

    # --- looking at it ---

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Of held-out pairs, per kind of bucket: the velocity loss, and how far the LoRA moves what is to stay."""
        found: dict[str, list[float]] = {}
        for bucket, pool in self.validation.items():
            rows = np.arange(len(pool))
            zeros, wordings = np.zeros_like(rows), self.wordings[id(pool)]
            predict = partial(self._velocity, self.conditions(pool, bucket, rows, zeros))
            loss = validation_loss(pool.take("target", rows).to(self.device), predict)
            found.setdefault(f"{bucket.label} loss", []).append(loss)
            if self.recipe.keep_share:
                moved = self._moved(pool, bucket, rows, wordings.choose(rows, zeros, np.ones_like(rows)))
                found.setdefault(f"{bucket.label} moved", []).append(moved)
        return {name: sum(values) / len(values) for name, values in found.items()}

    def _moved(self, pool: Pool, bucket: Bucket, rows: np.ndarray, choices: np.ndarray) -> float:
        """Mean squared difference of the velocities with and without the LoRA, at one level of noise."""
        source = pool.take("source", rows).to(self.device)
        noise = rng.draw_noise(0, 0, range(len(rows)), tuple(source.shape[1:])).to(self.device)
        sigma_B = torch.full((len(rows),), 0.8, device=self.device)
        noisy = noisy_latent(source, noise, sigma_B)
        now = self._velocity(self.conditions(pool, bucket, rows, choices), noisy, sigma_B * 1000)
        with self._without():
            before = self._velocity(self.conditions(pool, bucket, rows, choices), noisy, sigma_B * 1000)
        return float((now - before).pow(2).mean())

    def _latents(self, pool: Pool, bucket: Bucket, rows: np.ndarray, choices: np.ndarray) -> Tensor:
        """Edited, in the model's own number of steps and at most eight."""
        like = pool.take("target", rows).to(self.device)
        steps = min(SAMPLE_STEPS, self.config.sampling.num_steps)
        with self._autocast():
            conditions = self.conditions(pool, bucket, rows, choices)
            return sample_latents(self.denoiser, conditions, like, self.config, steps)

    def _edited(self, pool: Pool, bucket: Bucket, rows: np.ndarray) -> np.ndarray:
        """Edited frames (N,F,H,W,3) uint8, under the first instruction of each."""
        latents = self._latents(pool, bucket, rows, np.zeros_like(rows))
        self.vae.to(self.device)
        frames = decoded_frames(self.vae, self.config.vae, latents.to(self.vae.dtype))
        self.vae.to(CPU)
        return frames

    @torch.no_grad()
    def picture(self, path: Path | None) -> None:
        """Rows of held-out pairs: source, what the model made of it before, what it makes now, target."""
        columns = []
        for bucket, pool in self.validation.items():
            rows, middle = np.arange(min(SHOWN, len(pool))), bucket.frames // 2
            if bucket not in self._before:
                with self._without():
                    self._before[bucket] = self._edited(pool, bucket, rows)
            now = self._edited(pool, bucket, rows)
            for row in rows.tolist():
                sample = self.source.edit("val", int(pool.numbers[row]), bucket)
                shown = (sample.source_FHWC, self._before[bucket][row], now[row], sample.target_FHWC)
                columns.append([frames[middle] for frames in shown])
        save_grid(path, columns, 2 if max(columns[0][0].shape) < 200 else 1)

    def finish(self) -> None:
        """Nothing to change."""
