"""The cache of latents: what is selected, what its names hold, and that other weights never read an old pool."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from instructx_core.data.bucket import Bucket
from instructx_core.data.cache import Selection, edit_pool, pool_mark, scene_pool, select_samples
from instructx_core.data.world import ShapesWorld
from instructx_core.encoder.model import build_encoder
from instructx_core.vae import build_vae

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from nano import nano
from small_source import SmallSource

WORLD, IMAGES = ShapesWorld(), Bucket("image", 1, 64, 64)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_vae(nano().vae).eval(), build_encoder(nano()).eval()


def test_a_kind_is_shared_by_its_sizes_and_no_more_is_asked_than_there_is() -> None:
    source = SmallSource(count=5)
    chosen = select_samples(source, "train", {("image", False): 7, ("video", True): 99}, start=1)
    assert [(str(each.bucket), each.start, each.count) for each in chosen] == [
        ("image-1x64x96-plain", 1, 3),
        ("image-1x96x64-plain", 1, 4),
        ("video-5x64x96-reference", 1, 4),
    ]
    assert select_samples(source, "train", {("image", False): 7}, start=5) == []


def test_pools_are_read_again_and_named_by_what_they_hold(model, tmp_path: Path) -> None:
    vae, encoder = model
    selection = Selection("train", Bucket("image", 1, 64, 64, reference=True), 3, 4)
    pool = edit_pool(tmp_path, WORLD, selection, vae, encoder)
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("shapes-1-edit-train-image-1x64x64-reference-v")
    (shard,) = folder.iterdir()
    assert shard.name == "00000003-4.safetensors" and len(pool) == 4
    assert pool.texts[1] == WORLD.edit("train", 4, selection.bucket).instruction
    assert pool.tensors["reference"].shape == pool.tensors["target"].shape == (4, 16, 1, 8, 8)
    written = shard.stat().st_mtime_ns
    again = edit_pool(tmp_path, WORLD, selection, vae, encoder)
    assert shard.stat().st_mtime_ns == written
    assert torch.equal(again.take("target", np.array([2])), pool.take("target", np.array([2])))


def test_other_weights_have_pools_of_their_own(model, tmp_path: Path) -> None:
    vae, encoder = model
    scene_pool(tmp_path, WORLD, Selection("train", IMAGES, 0, 1), vae)
    marks = {pool_mark(vae), pool_mark(vae, encoder)}
    with torch.no_grad():
        vae.post_quant_conv.bias.add_(1)  # of the decoder: no pool depends on it
        assert {pool_mark(vae), pool_mark(vae, encoder)} == marks
        vae.quant_conv.bias.add_(1)
    assert marks.isdisjoint({pool_mark(vae), pool_mark(vae, encoder)}) and len(marks) == 2
    scene_pool(tmp_path, WORLD, Selection("train", IMAGES, 0, 1), vae)
    assert len(list(tmp_path.iterdir())) == 2
