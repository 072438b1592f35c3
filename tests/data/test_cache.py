"""The cache of latents: what is selected, what its names hold, and that other weights never read an old pool."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from instructx_core.data.bucket import Bucket
from instructx_core.data.cache import SHARD, Cache, Selection, chunk_size, own_first, pool_mark, select_samples
from instructx_core.data.encoding import pad_to_bucket
from instructx_core.data.opening import open_path
from instructx_core.data.raw_sample import Renderer
from instructx_core.data.readers.jsonl import write_records
from instructx_core.data.record import EditRecord, Locator
from instructx_core.data.shapes import ShapesWorld
from instructx_core.data.world import World
from instructx_core.encoder.designs import build_encoder
from instructx_core.vae import build_vae

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from edit_sets import mixture, picture, records
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
    pool = Cache(tmp_path, WORLD).edits(selection, vae, encoder)
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("shapes-1-edit-train-image-1x64x64-reference-v")
    (shard,) = folder.iterdir()
    assert shard.name == "00000003-4.safetensors" and len(pool) == 4
    assert pool.text(1) == (WORLD.edit("train", 4, selection.bucket).instruction,)
    assert all(pool.shards[0][name].shape == (4, 16, 1, 8, 8) for name in ("reference", "target"))
    written = shard.stat().st_mtime_ns
    again = Cache(tmp_path, WORLD).edits(selection, vae, encoder)
    assert shard.stat().st_mtime_ns == written
    assert torch.equal(again.take("target", np.array([2])), pool.take("target", np.array([2])))


def test_other_weights_have_pools_of_their_own(model, tmp_path: Path) -> None:
    vae, encoder = model
    Cache(tmp_path, WORLD).scenes(Selection("train", IMAGES, 0, 1), vae)
    marks = {pool_mark(vae), pool_mark(vae, encoder)}
    with torch.no_grad():
        vae.post_quant_conv.bias.add_(1)  # of the decoder: no pool depends on it
        assert {pool_mark(vae), pool_mark(vae, encoder)} == marks
        vae.quant_conv.bias.add_(1)
    assert marks.isdisjoint({pool_mark(vae), pool_mark(vae, encoder)}) and len(marks) == 2
    Cache(tmp_path, WORLD).scenes(Selection("train", IMAGES, 0, 1), vae)
    assert len(list(tmp_path.iterdir())) == 2


def test_rows_of_several_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHARD, "image", 3)
    pool = Cache(tmp_path, SmallSource(9)).pictures(Selection("train", Bucket("image", 1, 64, 96), 1, 7))
    assert [len(shard["pixels"]) for shard in pool.shards] == [3, 3, 1] and len(pool) == 7
    taken = pool.take("pixels", np.array([6, 0, 3])).byte().numpy()
    bucket = Bucket("image", 1, 64, 96)
    assert np.array_equal(taken, [SmallSource(9).frames(1 + row, bucket) for row in (6, 0, 3)])


def test_worker_processes_change_no_bit(tmp_path: Path) -> None:
    pools = []
    for workers in (1, 2):
        cache = Cache(tmp_path / str(workers), World(), Renderer(workers))
        pools.append(cache.pictures(Selection("train", IMAGES, 5, 8)).shards)
    assert [list(each) for each in pools[0]] == [["pixels", "weight"]]
    assert all(torch.equal(pools[0][0][name], pools[1][0][name]) for name in ("pixels", "weight"))


def test_questions_are_of_scenes_and_of_instructions_in_turn(tmp_path: Path) -> None:
    pool = Cache(tmp_path, World()).questions(Selection("val", IMAGES, 0, 4))
    for row in range(4):
        edit, scene = World().edit("val", row // 2, IMAGES), World().scene("val", row // 2, IMAGES)
        shown = edit.source_FHWC if row % 2 else scene.frames_FHWC
        assert np.array_equal(pool.take("frames", np.array([row]))[0].byte().numpy(), shown)
        asked = [pool.text(row, draw) for draw in range(len(pool.texts[row]))]
        assert len(asked) > 8 and all(len(pair) == 2 for pair in asked) and pool.text(row, len(asked)) == asked[0]
    answers = {answer for row in (1, 3) for _, answer in pool.texts[row]}
    assert {World().edit("val", number, IMAGES).caption for number in (0, 1)} & answers


def test_a_reference_of_another_size_is_padded_for_the_dit_alone(model, tmp_path: Path) -> None:
    vae, encoder = model
    bucket = Bucket("image", 1, 64, 96, reference=True, reference_size=(64, 64))
    (shard,) = Cache(tmp_path, World()).edits(Selection("train", bucket, 0, 1), vae, encoder).shards
    assert shard["reference"].shape == shard["source"].shape == (1, 16, 1, 8, 12)
    assert shard["reference_vision"].shape[1] == np.prod(encoder.grid_of(1, 64, 64, "reference")) // 4
    (picture,) = pad_to_bucket(np.zeros((1, 64, 64, 3), np.uint8), bucket)
    assert (picture[:, 16:80] == 0).all() and (picture[:, :16] == 255).all() and (picture[:, 80:] == 255).all()


def test_processes_begin_with_shards_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a share of its own first and does all in the end: a process that died leaves no hole."""
    orders = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")
        orders.append(own_first(range(8)))
    assert [order[:2] for order in orders] == [[0, 3], [1, 4], [2, 5]]
    assert all(sorted(order) == list(range(8)) for order in orders)
    assert orders[0][3:5] == [7, 4], "another's from its end, where that one comes last"


def test_a_shard_is_found_by_its_content(model, tmp_path: Path) -> None:
    """In another folder and another mixture the same records are the same shard; a changed picture is not."""
    vae, encoder = model
    path = records(tmp_path / "set", images=2, clips=0)
    chosen = Selection("train", IMAGES, 0, 2)

    def pool(folder: str) -> list[str]:
        source = open_path("mixture", str(mixture(tmp_path / "m.toml", f'[[set]]\npath = "{folder}"\n', validation=0)))
        Cache(tmp_path / "pools", source).edits(chosen, vae, encoder)
        return sorted(shard.name for shard in tmp_path.glob("pools/*/*.safetensors"))

    first = pool("set")
    path.parent.rename(tmp_path / "moved")
    assert pool("moved") == first and len(first) == 1
    picture(tmp_path / "moved" / "media" / "image1_source.png", 77)
    assert len(pool("moved")) == 2


def test_large_samples_are_encoded_one_by_one_and_kept_in_small_files(tmp_path: Path) -> None:
    """Fifty pictures of 1024x1024 at once do not fit on a card, and 500 of them in a file not in memory."""
    assert [chunk_size(bucket) for bucket in (IMAGES, Bucket("image", 1, 128, 128), Bucket("video", 17, 96, 96))] == [
        50,
        50,
        4,
    ]
    assert chunk_size(Bucket("image", 1, 1024, 1024)) == 2 and chunk_size(Bucket("video", 81, 480, 832)) == 1
    about = {"size": [1024, 1024]}
    made = [
        EditRecord(f"{n}", "add", "image", "x", Locator(f"{n}/s.png"), Locator(f"{n}/t.png"), meta=about)
        for n in range(150)
    ]
    write_records(tmp_path / "r.jsonl", made)
    source = open_path("mixture", str(mixture(tmp_path / "m.toml", '[[set]]\npath = "r.jsonl"\n', validation=0)))
    (bucket,) = source.buckets("train")
    assert [len(numbers) for _, numbers in source.groups("train", bucket, range(150))] == [64, 64, 22]
