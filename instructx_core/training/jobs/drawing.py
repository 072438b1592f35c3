"""Which samples: the bucket of a step and the size of its batch, drawn from (seed, step), so that all ranks agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...data.bucket import Bucket
from ...random_streams import random_stream
from .. import rng
from ..job import GlobalBatch
from ..recipes.base import Recipe


def draw_batch(
    recipe: Recipe,
    step: int,
    buckets: Sequence[Bucket],
    reference_probability: float = 0.0,
    shares: Mapping[Bucket, float] | None = None,
) -> GlobalBatch:
    """Modality by recipe.video_probability, then whether with a reference, then a size, all where there is a choice.

    shares: how often each bucket of a modality is drawn; None: all alike.
    """
    modality = rng.draw_modality(recipe.seed, step, recipe.video_probability)
    same = [bucket for bucket in buckets if bucket.modality == modality] or list(buckets)
    wanted = random_stream(recipe.seed, step, rng.MODALITY, 1).random() < reference_probability
    same = [bucket for bucket in same if bucket.reference == wanted] or same
    bucket = same[0]
    if len(same) > 1:
        draw = random_stream(recipe.seed, step, rng.MODALITY, 2)
        if shares is None:
            bucket = same[int(draw.integers(len(same)))]
        else:
            weights = np.array([shares[each] for each in same])
            bucket = same[int(draw.choice(len(same), p=weights / weights.sum()))]
    if bucket.modality == "video":
        return GlobalBatch(bucket, recipe.video_batch, recipe.micro_video_batch)
    return GlobalBatch(bucket, recipe.image_batch, recipe.micro_image_batch)
