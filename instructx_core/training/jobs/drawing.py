"""Which samples: the bucket of a step, drawn from (seed, step), so that all ranks agree, and the first of a bucket."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...data.bucket import Bucket
from ...data.source import EditSource
from .. import rng
from ..recipes.base import Recipe
from .job import GlobalBatch


def plain_buckets(source: EditSource, split: str) -> tuple[Bucket, ...]:
    """Those without a reference."""
    return tuple(bucket for bucket in source.buckets(split) if not bucket.reference)


def first_numbers(source: EditSource, split: str, bucket: Bucket, counts: dict[str, int]) -> np.ndarray:
    """The first samples of a bucket, as many as its modality is to have, or all there are."""
    return np.arange(min(counts[bucket.modality], source.size(split, bucket)))


def validation_counts(recipe: Recipe) -> dict[str, int]:
    """Samples of the validation split by modality."""
    return {"image": recipe.image_validation, "video": recipe.video_validation}


def draw_batch(recipe: Recipe, step: int, buckets: Sequence[Bucket], reference_probability: float = 0.0) -> GlobalBatch:
    """Modality by recipe.video_probability, then whether with a reference, then a size, all where there is a choice."""
    modality = rng.draw_modality(recipe.seed, step, recipe.video_probability)
    same = [bucket for bucket in buckets if bucket.modality == modality] or list(buckets)
    wanted = rng.philox(recipe.seed, step, rng.MODALITY, 1).random() < reference_probability
    same = [bucket for bucket in same if bucket.reference == wanted] or same
    bucket = same[0]
    if len(same) > 1:
        bucket = same[int(rng.philox(recipe.seed, step, rng.MODALITY, 2).integers(len(same)))]
    if bucket.modality == "video":
        return GlobalBatch(bucket, recipe.video_batch, recipe.micro_video_batch)
    return GlobalBatch(bucket, recipe.image_batch, recipe.micro_image_batch)
