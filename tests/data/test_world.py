"""Version 2 of the world as a data source: its sizes, its references, what the VAE sees, and its own measure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from instructx_core import world
from instructx_core.data.bucket import Bucket
from instructx_core.data.source import PretrainingSource
from instructx_core.data.sources import open_data
from instructx_core.data.world import PICTURES, WORDINGS, World, bucket_tasks, draw_sample, index_of, say
from instructx_core.errors import InputError

WORLD = World()
SMALL, WIDE = Bucket("image", 1, 64, 64), Bucket("image", 1, 64, 96)


def test_it_is_a_source_by_its_name() -> None:
    assert isinstance(open_data("world"), PretrainingSource)
    with pytest.raises(InputError, match="takes no path"):
        open_data("world:folder")


def test_buckets_are_the_worlds_sizes_with_references_of_two() -> None:
    buckets = WORLD.buckets("train")
    assert len(set(map(str, buckets))) == len(buckets)
    for modality, sizes in world.BUCKETS.items():
        plain = [(b.height, b.width) for b in buckets if b.modality == modality and not b.reference]
        assert tuple(plain) == sizes
    with_one = [(b.height, b.width, b.reference_shape) for b in buckets if b.reference and b.modality == "video"]
    assert set(with_one) == {(*s, shape) for s in world.BUCKETS["video"] for shape in (s, (64, 64))}


@pytest.mark.parametrize(
    "bucket",
    [
        WIDE,
        replace(WIDE, reference=True),
        replace(WIDE, reference=True, reference_size=(64, 64)),
        Bucket("video", 17, 64, 64),
    ],
    ids=str,
)
def test_edits_are_those_of_the_world(bucket: Bucket) -> None:
    tasks = bucket_tasks("train", bucket)
    for number in (0, 13):
        edit = WORLD.edit("train", number, bucket)
        assert edit.task == WORLD.task("train", number, bucket) == tasks[number % len(tasks)]
        assert edit.target_FHWC.shape == edit.source_FHWC.shape == (bucket.frames, bucket.height, bucket.width, 3)
        assert (edit.reference_HWC is not None) == bucket.reference
        assert edit.reference_HWC is None or edit.reference_HWC.shape[:2] == bucket.reference_shape
        assert edit.judge is not None and edit.judge(edit.target_FHWC)
        assert edit.judge(edit.source_FHWC) == (edit.task == "noop")


def test_sizes_and_kinds_of_reference_have_samples_of_their_own() -> None:
    indices = [index_of("train", number, bucket) for number in range(50) for bucket in WORLD.buckets("train")]
    plain = [b for b in WORLD.buckets("train") if not b.reference]
    assert len(indices) == 50 * len(WORLD.buckets("train"))
    for modality in world.MODALITIES:
        seen = [index_of("train", n, b) for n in range(50) for b in plain if b.modality == modality]
        assert len(set(seen)) == len(seen)
    with pytest.raises(InputError, match="no bucket image-1x72x72-plain"):
        WORLD.edit("train", 0, Bucket("image", 1, 72, 72))


def test_an_edit_is_said_in_several_ways_none_held_out() -> None:
    """And questions about it begin with an instruction, answered by the target in words of its language."""
    found, held_out = [], set()
    for number in range(10):
        sample = draw_sample("train", number, SMALL, WORLD.task("train", number, SMALL))
        edit = WORLD.edit("train", number, SMALL)
        assert edit.instruction == sample.instruction and len(edit.wordings) == WORDINGS
        found += edit.wordings
        held_out |= {say(sample, np.random.default_rng(seed)).held_out for seed in range(20)}
        assert edit.questions is not None
        (instruction, answer), *others = edit.questions(np.random.default_rng(0))
        assert answer == world.caption(sample.target_scene, "en" if instruction.isascii() else "zh")
        assert others and all(instruction in question for question, _ in others)
    assert len(set(found)) > 60 and {text.isascii() for text in found} == {True, False} and held_out == {False}


@pytest.mark.parametrize("modality", ["image", "video"])
def test_pictures_for_a_vae(modality: str) -> None:
    bucket = Bucket(modality, world.FRAMES[modality], 96, 64)
    for number, kind in enumerate(PICTURES[modality]):
        picture = WORLD.picture("train", number, bucket)
        frames = 1 if kind == "reference" else bucket.frames
        assert picture.frames_FHWC.shape == (frames, 96, 64, 3) and picture.frames_FHWC.dtype == np.uint8
        assert bool(picture.regions) <= (kind not in ("natural", "scene", "drawing", "reference"))
    found = WORLD.picture("train", PICTURES[modality].index("natural"), bucket).frames_FHWC
    index = index_of("train", PICTURES[modality].index("natural"), bucket)
    assert np.array_equal(found, world.natural_sample("train", index, modality, (96, 64))[0])


def test_texts_are_pieces_that_chinese_words_do_not_cross(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instructx_core.data.world.TEXT_SAMPLES", 6)
    texts = list(WORLD.texts())
    assert any(not text.isascii() for text in texts) and any(" " in text for text in texts)
    assert all(world.word_pieces(text) == [text] for text in texts)
