"""The job of the edit stages: which samples it draws from."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

from instructx_core.data.bucket import Bucket
from instructx_core.data.cache import Selection
from instructx_core.data.shapes import ShapesWorld
from instructx_core.errors import InputError
from instructx_core.training.jobs.edit import EditJob, pool_rows
from instructx_core.weights import SHIPPED

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
from nano import nano, nano_stage2

WORLD, IMAGES = ShapesWorld(), Bucket("image", 1, 64, 64)
FEW = {f"{kind}_validation": 1 for kind in ("image", "image_reference", "video", "video_reference")}
TOKENIZER = SHIPPED / "tokenizer.json"


def test_a_recipe_may_train_on_some_kinds_of_edits_only() -> None:
    recipe = nano_stage2(tasks=("add", "color"))
    selection = Selection("train", IMAGES, 5, 27)
    rows = pool_rows(recipe, WORLD, selection)
    assert {WORLD.edit("train", 5 + int(row), IMAGES).task for row in rows} == {"add", "color"}
    assert len(rows) == 6  # two of nine kinds
    twice = pool_rows(nano_stage2(tasks=("add", "color", "add")), WORLD, selection)
    assert len(twice) == 9 and set(twice) == set(rows), "a kind that is named twice is drawn twice as often"
    references = Selection("train", dataclasses.replace(IMAGES, reference=True), 5, 27)
    assert len(pool_rows(recipe, WORLD, references)) == len(pool_rows(nano_stage2(), WORLD, selection)) == 27


def test_a_recipe_without_any_sample_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(TOKENIZER.read_bytes())
    none = dict.fromkeys(("image_pool", "image_reference_pool", "video_pool", "video_reference_pool"), 0)
    for values in (none, none | {"image_pool": 4, "tasks": ("fly",)}):
        with pytest.raises(InputError, match="nothing to train on"):
            EditJob(nano_stage2(**values), nano(), WORLD, tmp_path)


def test_a_kind_that_the_pool_lacks_is_not_drawn(tmp_path: Path) -> None:
    """One clip is of one kind: the bucket without the wanted one is left out, and the other one of clips drawn."""
    (tmp_path / "tokenizer.json").write_bytes(TOKENIZER.read_bytes())
    wanted = WORLD.task("train", 1, IMAGES)
    job = EditJob(nano_stage2(tasks=(wanted,), video_pool=1, video_probability=1.0, **FEW), nano(), WORLD, tmp_path)
    assert {bucket.label for bucket in job.pools} == {"image", "image+reference", "video+reference"}
    drawn = {job.global_batch(step).bucket for step in range(20)}
    assert {bucket.label for bucket in drawn} == {"video+reference"}
    assert np.array_equal(job.rows[IMAGES], [1])
