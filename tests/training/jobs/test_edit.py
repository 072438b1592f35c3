"""The job of the edit stages: which samples it draws from."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from instructx_core.data.bucket import Bucket
from instructx_core.data.shapes import ShapesWorld
from instructx_core.data.sources import open_data
from instructx_core.errors import InputError
from instructx_core.training.edit_pools import plan_pools, pool_rows
from instructx_core.training.jobs.edit import EditJob
from instructx_core.training.machine import Machine
from instructx_core.training.runs.caching import fill_cache
from instructx_core.weights import SHIPPED

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
from edit_sets import clip, mixture, pairs, records
from nano import nano, nano_stage2

WORLD, IMAGES = ShapesWorld(), Bucket("image", 1, 64, 64)
FEW = {f"{kind}_validation": 1 for kind in ("image", "image_reference", "video", "video_reference")}
TOKENIZER = SHIPPED / "tokenizer.json"


def test_a_recipe_may_train_on_some_kinds_of_edits_only() -> None:
    recipe = nano_stage2(tasks=("add", "color"))
    numbers = range(5, 32)
    rows = pool_rows(recipe, WORLD, "train", IMAGES, numbers)
    assert {WORLD.edit("train", 5 + int(row), IMAGES).task for row in rows} == {"add", "color"}
    assert len(rows) == 6  # two of nine kinds
    twice = pool_rows(nano_stage2(tasks=("add", "color", "add")), WORLD, "train", IMAGES, numbers)
    assert len(twice) == 9 and set(twice) == set(rows), "a kind that is named twice is drawn twice as often"
    references = dataclasses.replace(IMAGES, reference=True)
    assert len(pool_rows(recipe, WORLD, "train", references, numbers)) == 27
    assert len(pool_rows(nano_stage2(), WORLD, "train", IMAGES, numbers)) == 27


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


def test_it_trains_on_files_by_their_shares_and_without_the_bad_ones(tmp_path: Path) -> None:
    """Two sets of unequal weight, one of them with a clip that ends before its head said."""
    (tmp_path / "tokenizer.json").write_bytes(TOKENIZER.read_bytes())
    records(tmp_path / "often", images=6, clips=5, references=2)
    pairs(tmp_path / "seldom", images=3)
    sets = "".join(f'[[set]]\npath = "{name}"\nweight = {weight}\n' for name, weight in (("often", 9), ("seldom", 1)))
    source = open_data(str(mixture(tmp_path / "m.toml", sets, max_rejects=0.5)))
    clips = Bucket("video", 5, 64, 64)
    bad = source.record("train", 0, clips)
    for path in (bad.source.path, bad.target.path):
        clip(Path(path), 3)
    recipe = nano_stage2(video_probability=0.5, reference_probability=0.5, **FEW)
    made = fill_cache(recipe, nano(), source, tmp_path, Machine())
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("pools/*/*.safetensors")}
    job = EditJob(recipe, nano(), source, tmp_path)
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.glob("pools/*/*.safetensors")}
    assert made["train"] == {bucket: len(pool) for bucket, pool in job.pools.items()}, "cached ahead, then found"
    images = job.pools[IMAGES]
    assert len(images) == source.size("train", IMAGES) == 5, "one of each set is for validation"
    assert len(job.pools[clips]) == source.size("train", clips) - 1
    (listed,) = tmp_path.glob("pools/records-edit-video-*-plain-*/rejects.jsonl")
    assert "takes 5 at 16 fps" in listed.read_text() and len(listed.read_text().splitlines()) == 1
    drawn = [job.global_batch(step).bucket for step in range(40)]
    assert {bucket.label for bucket in drawn} == {"image", "image+reference", "video", "video+reference"}
    assert job.shares is not None
    share = job.shares[IMAGES] / job.shares[IMAGES].sum()
    seldom = [source.task("train", int(number), IMAGES) == "seldom" for number in images.numbers]
    assert sum(seldom) == 2 and 0.1 < share[seldom].sum() < 0.2, "the other set has pictures with a reference, too"
    batch = next(each for each in map(job.global_batch, range(40)) if each.bucket.modality == "video")
    assert torch.isfinite(job.loss(0, batch, range(2)))
    assert set(job.validate()) >= {"image loss", "video loss"}
    job.picture(tmp_path / "picture.png")


def test_fewer_files_than_a_batch_are_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(TOKENIZER.read_bytes())
    source = open_data(str(pairs(tmp_path / "few", images=5)))
    with pytest.raises(InputError, match="has 4 images to train on, fewer than its batch of 16; give at least 16"):
        EditJob(nano_stage2(image_batch=16), nano(), source, tmp_path)
    assert plan_pools(nano_stage2(image_batch=4), source).train[0].count == 4
