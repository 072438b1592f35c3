"""The three stages of the paper (3.3): queries, LoRA and connector, then the DiT as well.

Encoded samples come from the cache of latents; the vision tower and the VAE are frozen, so nothing else is lost by
that. Stage 1 gives the DiT neither source nor reference latents. Validation: the velocity loss on a fixed grid of
sigmas, and the share of failed edits where the data source can judge them.
Legend: B batch, C channels, T latent frames, F frames, H W latent cells or pixels, L tokens, S vision tokens, D width.
"""

from __future__ import annotations

import dataclasses
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from ...config import InstructXConfig
from ...data.bucket import Bucket
from ...data.cache import Pool, pool_mark
from ...data.samples import EditSample
from ...data.source import EditSource, StoredSource
from ...geometry import dit_tokens
from ...random_streams import random_stream
from ...sampling.guidance import Conditions, velocity
from .. import distributed, rng
from ..base import remember_base, size_of_weights
from ..cached import encoded_shards, note_mark
from ..edit_pools import EditPools, PoolPlan, plan_pools
from ..job import GlobalBatch
from ..machine import Machine
from ..model import open_stage_model
from ..pictures import save_grid
from ..recipes.base import FROM_BASE
from ..recipes.edit import EditRecipe
from ..tokenizer import run_tokenizer
from ..trainable import parameter_table
from .drawing import draw_batch
from .encoded import EncodedBatch, encode_context, take_batch
from .flow import decoded_frames, flow_loss, sample_latents, validation_loss

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

logger = logging.getLogger("instructx")

SHOWN = 9


class EditJob:
    needs: ClassVar[type] = EditSource

    def __init__(
        self,
        recipe: EditRecipe,
        config: InstructXConfig,
        source: EditSource,
        output: Path,
        machine: Machine = Machine(),  # noqa: B008 - frozen
    ) -> None:
        self.device, self.cache = machine.device, machine.cache(output, source)
        self.recipe, self.config, self.source = recipe, recipe.model_config(config), source
        if FROM_BASE in recipe.requires:
            machine = dataclasses.replace(machine, base=remember_base(output, machine.base, self.config))
        self.tokenizer = run_tokenizer(output, config, source)
        plan = plan_pools(recipe, source)
        shards = machine.base and encoded_shards(plan, self.cache, recipe, self.config, machine.base)
        self.model = open_stage_model(recipe, self.config, output, machine, encode=shards is None)
        self.encoder, self.denoiser = self.model.parts.encoder, self.model.parts.denoiser
        logger.info("%s", parameter_table(self.encoder, self.denoiser, recipe.train))
        pools = self._fill(plan, machine) if shards is None else plan.read(self.cache, shards)
        self.pools, self.rows, self.shares, self.validation = pools.train, pools.rows, pools.shares, pools.validation
        self.trainable = self.model.complete()
        if recipe.sample_every and machine.base and not size_of_weights(machine.base.vae):
            logger.info("%s is gone: all samples are encoded, but no sample sheets are made", machine.base.vae)

    def _fill(self, plan: PoolPlan, machine: Machine) -> EditPools:
        vae = self.model.parts.vae
        assert vae is not None  # it was opened to encode
        pools = plan.fill(self.cache, vae, self.encoder)
        if machine.base and not distributed.rank():
            note_mark(self.cache, self.recipe, self.config, machine.base, pool_mark(vae, self.encoder))
        return pools

    # --- one batch ---

    def global_batch(self, step: int) -> GlobalBatch:
        shares = self.shares and {bucket: float(each.sum()) for bucket, each in self.shares.items()}
        batch = draw_batch(self.recipe, step, tuple(self.rows), self.recipe.reference_probability, shares)
        return dataclasses.replace(batch, tokens=batch.size * self._tokens(batch.bucket))

    def _tokens(self, bucket: Bucket) -> int:
        """That the DiT reads of one sample."""
        size = bucket.height, bucket.width
        more = dit_tokens(1, *size, self.config) if bucket.reference and self.recipe.source_latents else 0
        return dit_tokens(bucket.frames, *size, self.config) + more

    def batch(self, pool: Pool, bucket: Bucket, indices: np.ndarray, texts: list[str]) -> EncodedBatch:
        """Rows of a pool with what is said of them."""
        return take_batch(pool, bucket, indices, texts, self.encoder, self.recipe.source_latents)

    def conditions(self, batch: EncodedBatch) -> Conditions:
        """What the DiT is given: the instruction is encoded, with the features of what the MLLM sees."""
        context_BLD = encode_context(self.encoder, self.tokenizer, self.config, batch)
        return Conditions(context_BLD, source=batch.source, references=batch.reference)

    def loss(self, step: int, batch: GlobalBatch, positions: range) -> Tensor:
        recipe, bucket = self.recipe, batch.bucket
        part = slice(positions.start, positions.stop)
        rows = self.rows[bucket]
        shares = self.shares and self.shares[bucket]
        indices = rows[rng.draw_indices(recipe.seed, step, batch.size, len(rows), shares)][part]
        dropped = random_stream(recipe.seed, step, rng.DROPOUT).random(batch.size)[part] < recipe.instruction_dropout
        draws = rng.draw_texts(recipe.seed, step, batch.size)[part]
        pool = self.pools[bucket]
        texts = [pool.text(row, draw)[0] for row, draw in zip(indices, draws, strict=True)]
        texts = ["" if drop else text for text, drop in zip(texts, dropped, strict=True)]  # for guidance
        drawn = self.batch(pool, bucket, indices, texts)
        predict = partial(velocity, self.denoiser, self.conditions(drawn))
        return flow_loss(recipe, step, batch.size, positions, drawn.target, predict)

    # --- looking at it ---

    def edit(self, batch: EncodedBatch, conditions: Conditions, vae: AutoencoderKLWan) -> np.ndarray:
        """Edited frames (N,F,H,W,3) uint8."""
        latents = sample_latents(self.denoiser, conditions, batch.target, self.config)
        return decoded_frames(vae, self.config.vae, latents)

    def first(self, pool: Pool, bucket: Bucket, count: int) -> EncodedBatch:
        """The first rows of a pool, each with its first instruction."""
        return self.batch(pool, bucket, np.arange(count), [pool.text(row)[0] for row in range(count)])

    def _samples(self, pool: Pool, bucket: Bucket, count: int) -> list[EditSample]:
        return [self.source.edit("val", int(number), bucket) for number in pool.numbers[:count]]

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Velocity loss and share of failed edits (lower is better), per kind of bucket and per task of images."""
        found: dict[str, list[float]] = {}
        vae = None if isinstance(self.source, StoredSource) else self.model.decoder()  # files have no judge
        for bucket, pool in self.validation.items():
            name = bucket.modality + (" reference" if bucket.reference else "")
            batch = self.first(pool, bucket, len(pool))
            conditions = self.conditions(batch)
            loss = validation_loss(batch.target, partial(velocity, self.denoiser, conditions))
            found.setdefault(f"{name} loss", []).append(loss)
            if vae is None:
                continue
            edited = self.edit(batch, conditions, vae)
            for sample, frames_FHWC in zip(self._samples(pool, bucket, len(pool)), edited, strict=True):
                if sample.judge is None:
                    continue
                failed = float(not sample.judge(frames_FHWC))
                found.setdefault(f"{name} failed", []).append(failed)
                if bucket.modality == "image":
                    found.setdefault(f"failed {sample.task}", []).append(failed)
        return {name: sum(values) / len(values) for name, values in found.items()}

    @torch.no_grad()
    def picture(self, path: Path | None) -> None:
        """Rows of source, result and target: images, then with reference, then the middle frame of clips.

        None are made where the VAE is gone; the start of the run says so.
        """
        rows, vae = [], self.model.decoder()
        if vae is None:
            return
        for bucket, pool in self.validation.items():
            count, middle = min(SHOWN, len(pool)), bucket.frames // 2
            batch = self.first(pool, bucket, count)
            edited = self.edit(batch, self.conditions(batch), vae)
            samples = self._samples(pool, bucket, count)
            rows.append([sample.source_FHWC[middle] for sample in samples])
            rows.append([frames[middle] for frames in edited])
            rows.append([sample.target_FHWC[middle] for sample in samples])
        save_grid(path, rows)

    def finish(self) -> None:
        """Nothing to change."""
