"""The VAE's training: crops of a part of the run, weights by region, latents in the format that Wan promises."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from instructx_core.data.raw_sample import weigh
from instructx_core.errors import InputError
from instructx_core.latents import latent_stats
from instructx_core.training.jobs.vae import VaeJob
from instructx_core.training.recipes.vae import Crops, VaeRecipe
from instructx_core.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
from nano import FAST, small_vae
from small_source import SmallSource


def recipe(**values: object) -> VaeRecipe:
    pools = {"name": "vae", "description": "", "image_pool": 4, "video_pool": 2, "num_steps": 10, "image_validation": 2}
    return VaeRecipe(**FAST | pools | values)


def test_a_small_region_weighs_as_much_as_a_large_one() -> None:
    small, large = np.zeros((2, 1, 8, 8), bool)
    small[0, 0, :2], large[0, 4:] = True, True
    weights = weigh((("small", small), ("large", large)), (1, 8, 8))
    assert weights.mean() == pytest.approx(1)
    assert (weights - 0.5)[small].sum() == pytest.approx((weights - 0.5)[large].sum())


def test_crops_then_whole_frames_each_with_its_batch(tmp_path: Path) -> None:
    parts = (Crops(32, 0.5, 6, 2), Crops(48, 0.3, 3, 2))
    job = VaeJob(recipe(crops=parts), small_vae(), SmallSource(8), tmp_path)
    sides, pixels = [], torch.rand(3, 3, 1, 64, 96)
    for step in range(10):
        cropped, weights = job._cropped(pixels, pixels[:, :1], step, range(3))
        assert torch.equal(cropped[:, :1], weights), "a picture and its weights are cut alike"
        sides.append((tuple(cropped.shape[-2:]), job.global_batch(step).size))
    assert sides == [((32, 32), 6)] * 5 + [((48, 48), 3)] * 3 + [((64, 96), 4)] * 2
    positions = job._cropped(pixels[1:], pixels[1:], 0, range(1, 3))[0]
    assert torch.equal(positions, job._cropped(pixels, pixels, 0, range(3))[0][1:]), "by its place in the batch"


def test_latents_end_with_the_statistics_of_the_format(tmp_path: Path) -> None:
    """On the pictures that they were measured on; and what is decoded stays the same."""
    job = VaeJob(recipe(video_probability=0.5), small_vae(), SmallSource(8), tmp_path)
    Trainer(job.recipe, job, tmp_path / "run").train_step()
    pool = next(iter(job.pools.values()))
    pixels, _ = job.pictures(pool, np.arange(len(pool)))
    with torch.no_grad():
        before = job.round_trip(pixels)
        job.finish()
        torch.testing.assert_close(job.round_trip(pixels), before, rtol=1e-3, atol=1e-3)
        cells = [job.vae.encode(job.pictures(p, np.arange(len(p)))[0]).latent_dist.mode() for p in job.pools.values()]
    latent_CN = torch.cat([each.transpose(0, 1).flatten(1) for each in cells], 1)
    mean, std = (torch.tensor(value) for value in latent_stats(16))
    torch.testing.assert_close(latent_CN.mean(1), mean, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(latent_CN.std(1), std, rtol=1e-3, atol=1e-3)


def test_it_trains_in_bf16(tmp_path: Path) -> None:
    job = VaeJob(recipe(precision="bf16", muon_scale=2.0), small_vae(), SmallSource(8), tmp_path)
    trainer = Trainer(job.recipe, job, tmp_path / "run")
    rows = [trainer.train_step() for _ in range(2)]
    assert all(np.isfinite(row["loss"]) for row in rows)


def test_a_recipe_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no samples to train on: give image_pool"):
        VaeJob(recipe(image_pool=0, video_pool=0), small_vae(), SmallSource(8), tmp_path)
