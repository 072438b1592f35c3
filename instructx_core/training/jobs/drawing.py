"""Which samples: the bucket of a step and the size of its batch, drawn from (seed, step), so that all ranks agree."""

from __future__ import annotations

from collections.abc import Sequence

from ...data.bucket import Bucket
from ...random_streams import random_stream
from .. import rng
from ..job import GlobalBatch
from ..recipes.base import Recipe


def draw_batch(recipe: Recipe, step: int, buckets: Sequence[Bucket], reference_probability: float = 0.0) -> GlobalBatch:
    """Modality by recipe.video_probability, then whether with a reference, then a size, all where there is a choice."""
    modality = rng.draw_modality(recipe.seed, step, recipe.video_probability)
    same = [bucket for bucket in buckets if bucket.modality == modality] or list(buckets)
    wanted = random_stream(recipe.seed, step, rng.MODALITY, 1).random() < reference_probability
    same = [bucket for bucket in same if bucket.reference == wanted] or same
    bucket = same[0]
    if len(same) > 1:
        bucket = same[int(random_stream(recipe.seed, step, rng.MODALITY, 2).integers(len(same)))]
    if bucket.modality == "video":
        return GlobalBatch(bucket, recipe.video_batch, recipe.micro_video_batch)
    return GlobalBatch(bucket, recipe.image_batch, recipe.micro_image_batch)
