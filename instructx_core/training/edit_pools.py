"""The pools of an edit stage: which samples are encoded before step 1, and which rows of them a step draws.

Between a source and jobs/edit.py. Planned before a model is loaded, so that a source without fitting samples is refused
at once; filled with the VAE and the vision tower alone, which `instructx data cache` does ahead of a run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from ..data.bucket import Bucket, Kind
from ..data.cache import Cache, Pool, Selection, ShardTask, edit_encoder, pool_mark, select_all, select_samples
from ..data.source import EditSource, StoredSource
from ..errors import InputError
from .recipes.edit import EditRecipe

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

    from ..encoder.context_encoder import ContextEncoder

logger = logging.getLogger("instructx")

StageShards = dict[Selection, list[ShardTask]]


@dataclass(frozen=True, slots=True)
class EditPools:
    """rows: of each pool that are drawn, one that is named twice twice. shares: how often each of these rows is drawn;
    None: all of a bucket, and all buckets, alike."""

    train: dict[Bucket, Pool]
    rows: dict[Bucket, np.ndarray]
    shares: dict[Bucket, np.ndarray] | None
    validation: dict[Bucket, Pool]


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What `recipe` asks of `source`."""

    recipe: EditRecipe
    source: EditSource
    train: list[Selection]
    validation: list[Selection]

    def shards(self, cache: Cache, mark: str) -> StageShards:
        """Those that the stage reads, on the disk or not. mark: of the models that encode them (pool_mark)."""
        return {each: cache.edit_tasks(each, mark) for each in (*self.train, *self.validation)}

    def fill(self, cache: Cache, vae: AutoencoderKLWan, encoder: ContextEncoder) -> EditPools:
        """From the disk, or encoded now. Raises InputError where too many samples cannot be read."""
        shards = self.shards(cache, pool_mark(vae, encoder))
        cache.write(list(chain(*shards.values())), edit_encoder(vae, encoder))
        return self.read(cache, shards)

    def read(self, cache: Cache, shards: StageShards) -> EditPools:
        """Of shards that are all there. Raises InputError where too many samples could not be read."""
        train = {each.bucket: cache.read(shards[each]) for each in self.train}
        rows = chosen_rows(self.recipe, self.source, {bucket: pool.numbers for bucket, pool in train.items()})
        shares = None
        if isinstance(self.source, StoredSource):
            drawn = {bucket: self.source.shares("train", bucket)[pool.numbers] for bucket, pool in train.items()}
            shares = {bucket: drawn[bucket][some] for bucket, some in rows.items()}
        validation = {each.bucket: cache.read(shards[each]) for each in self.validation}
        return EditPools(train, rows, shares, validation)


def plan_pools(recipe: EditRecipe, source: EditSource) -> PoolPlan:
    """Raises InputError when the source has no sample of the recipe's kinds, or files of fewer than a batch."""
    selections = stage_selections(recipe, source)
    numbers = {each.bucket: range(each.start, each.start + each.count) for each in selections}
    chosen = chosen_rows(recipe, source, numbers)
    if isinstance(source, StoredSource):
        _check_batches(recipe, chosen)
    kinds = {each.bucket.kind for each in selections}
    wanted = {kind: count for kind, count in _validation_counts(recipe).items() if kind in kinds}
    train = [each for each in selections if each.bucket in chosen]
    return PoolPlan(recipe, source, train, select_samples(source, "val", wanted))


def _check_batches(recipe: EditRecipe, rows: Mapping[Bucket, np.ndarray]) -> None:
    """Raises InputError for files of which one batch would hold every sample, and some twice."""
    for modality, batch in (("image", recipe.image_batch), ("video", recipe.video_batch)):
        count = sum(len(set(some.tolist())) for bucket, some in rows.items() if bucket.modality == modality)
        if 0 < count < batch:
            raise InputError(
                f"{recipe.name} has {count} {modality}s to train on, fewer than its batch of {batch}; give at least "
                f"{batch}, or a recipe with a smaller batch"
            )


def stage_selections(recipe: EditRecipe, source: EditSource) -> list[Selection]:
    """Of a source of files everything that a step may draw, of a world as many as the recipe's pools say."""
    counts = {kind: count for kind, count in _counts(recipe).items() if count}
    if not isinstance(source, StoredSource):
        return select_samples(source, "train", counts, recipe.pool_start)
    modalities = {"image": recipe.video_probability < 1, "video": recipe.video_probability > 0}
    references = {True: recipe.reference_probability > 0, False: recipe.reference_probability < 1}
    kinds = [kind for kind in _counts(recipe) if modalities[kind[0]] and references[kind[1]]]
    return select_all(source, "train", kinds)


def chosen_rows(
    recipe: EditRecipe, source: EditSource, numbers: Mapping[Bucket, Sequence[int] | np.ndarray]
) -> dict[Bucket, np.ndarray]:
    """Rows of each bucket that has any, in a pool of these numbers. Raises InputError when none has."""
    rows = {bucket: pool_rows(recipe, source, "train", bucket, some) for bucket, some in numbers.items()}
    for bucket, some in numbers.items():
        logger.info("%s: %d samples, %d drawn from", bucket, len(some), len(set(rows[bucket])))
    if not any(map(len, rows.values())):
        raise InputError(
            f"{recipe.name} has nothing to train on: {source.name} has no sample of its kinds "
            f"({', '.join(sorted(set(recipe.tasks))) or 'all'}) in pools of {_counts(recipe)}; give larger "
            "pools, other tasks in the recipe or other data"
        )
    return {bucket: chosen for bucket, chosen in rows.items() if len(chosen)}


def pool_rows(
    recipe: EditRecipe, source: EditSource, split: str, bucket: Bucket, numbers: Sequence[int] | np.ndarray
) -> np.ndarray:
    """The rows of a pool of these numbers that `recipe` draws from, those of a kind that is named twice twice; empty
    if of none."""
    rows = np.arange(len(numbers))
    if not recipe.tasks or bucket.reference:
        return rows
    tasks = [source.task(split, int(number), bucket) for number in numbers]
    return np.repeat(rows, [recipe.tasks.count(task) for task in tasks])


def _counts(recipe: EditRecipe) -> dict[Kind, int]:
    return {
        ("image", False): recipe.image_pool,
        ("image", True): recipe.image_reference_pool,
        ("video", False): recipe.video_pool,
        ("video", True): recipe.video_reference_pool,
    }


def _validation_counts(recipe: EditRecipe) -> dict[Kind, int]:
    return {
        ("image", False): recipe.image_validation,
        ("image", True): recipe.image_reference_validation,
        ("video", False): recipe.video_validation,
        ("video", True): recipe.video_reference_validation,
    }
