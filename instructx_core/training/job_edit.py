"""The three stages of the paper (3.3) on the procedural world: queries, LoRA and connector, then the DiT as well.

Encoded samples come from pools (pools.py); the vision tower and the VAE are frozen, so nothing else is lost by that.
Stage 1 gives the DiT neither source nor reference latents. Validation: the velocity loss on a fixed grid of sigmas, and
the share of successful edits, judged by the world's own measure.
Legend: B batch, C channels, T latent frames, H W latent cells, L tokens, D width.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from .. import shapes
from ..config import InstructXConfig
from ..denoiser import InstructXTransformer3DModel, build_denoiser
from ..encoder.inputs import inputs_of_pictures
from ..encoder.model import InstructXEncoder, build_encoder
from ..encoder.pictures import pictures_of_grids
from ..vae import build_vae, decode_latents, speed_up_single_frames
from . import rng
from .flow_job import Velocity, draw_bucket, euler, flow_loss, validation_loss
from .pictures import save_grid, to_uint8
from .pools import Pool, edit_pool, edit_sample, edit_tasks, grids
from .recipes import Recipe
from .start import final_weights, load_into
from .trainable import select, summary
from .trainer import Bucket
from .world_text import world_tokenizer

logger = logging.getLogger("instructx")

VALIDATION = {("image", False): 54, ("image", True): 16, ("video", False): 14, ("video", True): 6}


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of a pool. Latents (B,C,T,H,W); source and reference are None where the stage doesn't use them."""

    modality: str
    texts: list[str]
    target: Tensor
    source: Tensor | None
    reference: Tensor | None
    vision: Tensor
    reference_vision: Tensor | None


def edit_config(recipe: Recipe, config: InstructXConfig) -> InstructXConfig:
    """The preset, with the recipe's choice of the source embedder."""
    if recipe.source_embedder == "preset":
        return config
    return dataclasses.replace(
        config, denoiser=dataclasses.replace(config.denoiser, source_embedder=recipe.source_embedder)
    )


def pool_rows(recipe: Recipe, bucket: Bucket, count: int) -> np.ndarray:
    """The rows of a pool that `recipe` draws from: its kinds of edits follow each other (pools.edit_sample)."""
    rows = np.arange(count)
    if not recipe.tasks or bucket.has_reference:
        return rows
    kinds = edit_tasks("train", bucket.modality, False)
    times = np.array([recipe.tasks.count(kind) for kind in kinds])
    return np.repeat(rows, times[(recipe.pool_start + rows) % len(kinds)])


@dataclass(frozen=True, slots=True)
class Parts:
    """The modules of one model; `root` names their tensors."""

    vae: AutoencoderKLWan
    encoder: InstructXEncoder
    denoiser: InstructXTransformer3DModel
    root: nn.ModuleDict


def load_parts(recipe: Recipe, config: InstructXConfig, output: Path) -> Parts:
    """What `recipe` starts from: everything that it requires, in that order, and LoRA layers, trained or new.

    Raises InputError when a required recipe has no final weights under `output`.
    """
    torch.manual_seed(recipe.seed)
    vae, encoder, denoiser = build_vae(config.vae), build_encoder(config), build_denoiser(config)
    root = nn.ModuleDict({"vae": vae, "encoder": encoder, "denoiser": denoiser})
    trained: set[str] = set()
    for required in recipe.requires:
        tensors = {k: v for k, v in final_weights(output, required).items() if not k.startswith("text_encoder.")}
        if any(".lora_" in name for name in tensors) and not any(".lora_" in name for name in trained):
            encoder.add_lora(config.lora)
        load_into(root, tensors)
        trained |= set(tensors)
    if not any(".lora_" in name for name in trained):
        encoder.add_lora(config.lora)
    _start_reference_embedder(denoiser, trained)
    speed_up_single_frames(vae)
    vae.requires_grad_(False).eval()
    return Parts(vae, encoder, denoiser, root)


@torch.no_grad()
def _start_reference_embedder(denoiser: InstructXTransformer3DModel, trained: set[str]) -> None:
    """An own reference embedder starts as the DiT's patch embedding: the same function as a tied one.

    An own source embedder stays at zero. Started as a copy as well, it would be learnt as slowly as a tied one: the DiT
    couldn't tell the source from the noise that it is added to (docs/training.md has the comparison).
    """
    own = denoiser.reference_embedder
    if own is not None and "denoiser.reference_embedder.weight" not in trained:
        own.load_state_dict(denoiser.patch_embedding.state_dict())


class EditJob:
    def __init__(self, recipe: Recipe, config: InstructXConfig, output: Path) -> None:
        self.recipe, self.config = recipe, edit_config(recipe, config)
        self.tokenizer = world_tokenizer(output, config)
        parts = load_parts(recipe, self.config, output)
        self.vae, self.encoder, self.denoiser = parts.vae, parts.encoder, parts.denoiser
        self.trainable = select(recipe.train, self.encoder, self.denoiser)
        logger.info("%s", summary(self.encoder, self.denoiser, recipe.train))
        self.pools = self._pools(output, "train", self._counts(), recipe.pool_start)
        wanted = {key: count for key, count in VALIDATION.items() if key in self.pools}
        self.validation = self._pools(output, "val", wanted, 0)

    def _counts(self) -> dict[tuple[str, bool], int]:
        recipe = self.recipe
        counts = {
            ("image", False): recipe.image_pool,
            ("image", True): recipe.image_reference_pool,
            ("video", False): recipe.video_pool,
            ("video", True): recipe.video_reference_pool,
        }
        return {key: count for key, count in counts.items() if count}

    def _pools(
        self, output: Path, split: str, counts: dict[tuple[str, bool], int], start: int
    ) -> dict[tuple[str, bool], Pool]:
        return {
            (modality, has_reference): edit_pool(
                output,
                self.vae,
                self.encoder,
                split=split,
                modality=modality,
                has_reference=has_reference,
                start=start,
                count=count,
            )
            for (modality, has_reference), count in counts.items()
        }

    # --- one batch ---

    def bucket(self, step: int) -> Bucket:
        with_video = ("video", False) in self.pools
        return draw_bucket(self.recipe, step, with_video, {m for m, has in self.pools if has})

    def batch(self, pool: Pool, modality: str, indices: np.ndarray, dropped: np.ndarray | None = None) -> Batch:
        """`dropped` marks the rows whose instruction is left out (for guidance)."""
        has_reference = "reference" in pool.tensors
        texts = [pool.texts[i] for i in indices]
        if dropped is not None:
            texts = ["" if drop else text for text, drop in zip(texts, dropped, strict=True)]
        latents = self.recipe.source_latents
        return Batch(
            modality=modality,
            texts=texts,
            target=pool.take("target", indices),
            source=pool.take("source", indices) if latents else None,
            reference=pool.take("reference", indices) if latents and has_reference else None,
            vision=pool.take("vision", indices),
            reference_vision=pool.take("reference_vision", indices) if has_reference else None,
        )

    def velocity(self, batch: Batch) -> Velocity:
        """The model with this batch's conditions: encodes once, then (noisy, timestep) -> velocity."""
        source_grid, reference_grid = grids(self.config, self.encoder, batch.modality)
        pictures = pictures_of_grids(
            self.config,
            shapes.FRAMES[batch.modality],
            source_grid,
            () if batch.reference_vision is None else (reference_grid,),
            self.config.sampling.fps,
        )
        inputs = inputs_of_pictures(self.tokenizer, self.config, batch.texts, pictures, allow_empty=True)
        context_BLD = self.encoder(inputs, batch.vision, batch.reference_vision)

        def velocity(noisy_BCTHW: Tensor, timestep_B: Tensor) -> Tensor:
            return self.denoiser(
                noisy_BCTHW,
                timestep_B,
                context_BLD,
                source=batch.source,
                references=batch.reference,
                return_dict=False,
            )[0]

        return velocity

    def loss(self, step: int, bucket: Bucket, positions: range) -> Tensor:
        recipe = self.recipe
        pool = self.pools[bucket.modality, bucket.has_reference]
        part = slice(positions.start, positions.stop)
        rows = pool_rows(recipe, bucket, len(pool))
        indices = rows[rng.draw_indices(recipe.seed, step, bucket.batch, len(rows))][part]
        dropped = rng.philox(recipe.seed, step, rng.DROPOUT).random(bucket.batch)[part] < recipe.instruction_dropout
        batch = self.batch(pool, bucket.modality, indices, dropped)
        return flow_loss(recipe, step, bucket, positions, batch.target, self.velocity(batch))

    # --- looking at it ---

    def edit(self, key: tuple[str, bool], pool: Pool, indices: np.ndarray) -> np.ndarray:
        """Edited frames (N,F,H,W,3) uint8 of these rows."""
        batch = self.batch(pool, key[0], indices)
        latents = euler(self.velocity(batch), tuple(batch.target.shape), self.config.sampling.shift)
        return to_uint8(decode_latents(self.vae, latents).permute(0, 2, 3, 4, 1))

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Velocity loss and share of failed edits (lower is better), per bucket and per task of images."""
        values: dict[str, float] = {}
        for key, pool in self.validation.items():
            modality, has_reference = key
            name = modality + (" reference" if has_reference else "")
            indices = np.arange(len(pool))
            batch = self.batch(pool, modality, indices)
            values[f"{name} loss"] = validation_loss(batch.target, self.velocity(batch))
            edited = self.edit(key, pool, indices)
            samples = [edit_sample("val", i, modality, has_reference) for i in indices]
            scores = [shapes.score(s, frames) for s, frames in zip(samples, edited, strict=True)]
            values[f"{name} failed"] = 1 - sum(s.success for s in scores) / len(scores)
            if modality == "image":
                for task in sorted({s.task for s in samples}):
                    wins = [score.success for s, score in zip(samples, scores, strict=True) if s.task == task]
                    values[f"failed {task}"] = 1 - sum(wins) / len(wins)
        return values

    @torch.no_grad()
    def picture(self, path: Path) -> None:
        """Rows of source, result and target: nine images, then with reference, then the middle frame of clips."""
        rows = []
        for (modality, has_reference), pool in self.validation.items():
            count = min(9, len(pool))
            edited = self.edit((modality, has_reference), pool, np.arange(count))
            samples = [edit_sample("val", i, modality, has_reference) for i in range(count)]
            middle = shapes.FRAMES[modality] // 2
            rows.append([s.source_FHWC[middle] for s in samples])
            rows.append([frames[middle] for frames in edited])
            rows.append([s.target_FHWC[middle] for s in samples])
        save_grid(path, rows)

    def finish(self) -> None:
        """Nothing to change."""
