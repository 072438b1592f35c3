"""Rows of a pool as one batch, and what the MLLM makes of them: shared by the jobs that teach edits.

Between the cache of latents and jobs/edit.py, jobs/lora.py.
Legend: B batch, C channels, T latent frames, F frames, H W latent cells or pixels, L tokens, S vision tokens, D width.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from ...config import InstructXConfig
from ...data.bucket import Bucket
from ...data.cache import Pool
from ...data.encoding import is_tower_trained
from ...encoder.pictures import pictures_of_grids
from ...encoder.vision import patch_batch


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """Rows of a pool. Latents (B,C,T,H,W); vision features (B,S,D), or frames (B,F,H,W,3) where the tower is trained.

    None where the stage or its encoder doesn't use them.
    """

    bucket: Bucket
    texts: list[str]
    target: Tensor
    source: Tensor | None
    reference: Tensor | None
    vision: Tensor | None
    reference_vision: Tensor | None


def take_batch(
    pool: Pool, bucket: Bucket, indices: np.ndarray, texts: list[str], encoder: Any, latents: bool
) -> EncodedBatch:
    """Rows of a pool with what is said of them. latents: of source and reference as well."""

    sees = encoder.sees_pictures

    def take(name: str) -> Tensor:
        return pool.take(name, indices).to(encoder.device)

    return EncodedBatch(
        bucket=bucket,
        texts=texts,
        target=take("target"),
        source=take("source") if latents else None,
        reference=take("reference") if latents and bucket.reference else None,
        vision=take("vision") if sees else None,
        reference_vision=take("reference_vision") if sees and bucket.reference else None,
    )


def encode_context(encoder: Any, tokenizer: Tokenizer, config: InstructXConfig, batch: EncodedBatch) -> Tensor:
    """(B, L, D): the instructions, with the features of what the MLLM sees."""
    bucket = batch.bucket
    source_grid = encoder.grid_of(bucket.frames, bucket.height, bucket.width, bucket.modality)
    reference_grid = encoder.grid_of(1, *bucket.reference_shape, "reference")
    references = (reference_grid,) if bucket.reference else ()
    pictures = pictures_of_grids(config, bucket.frames, source_grid, references, config.sampling.fps)
    inputs = encoder.prepare_texts(tokenizer, batch.texts, pictures)
    if not is_tower_trained(config):
        return encoder(inputs.to(encoder.device), batch.vision, batch.reference_vision)
    inputs = dataclasses.replace(
        inputs,
        patches_BSP=_patches(batch.vision, config),
        reference_patches_BSP=_patches(batch.reference_vision, config),
    )
    return encoder(inputs.to(encoder.device))


def _patches(seen_BFHWC: Tensor | None, config: InstructXConfig) -> Tensor | None:
    return None if seen_BFHWC is None else patch_batch(seen_BFHWC.to(torch.uint8).cpu(), config)[0]
