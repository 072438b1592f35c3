"""The procedural world as a data source gives the world's own samples, and judges by the world's own measure."""

from __future__ import annotations

import numpy as np
import pytest

from instructx_core import shapes
from instructx_core.data.bucket import Bucket
from instructx_core.data.shapes import PICTURES, ShapesWorld
from instructx_core.data.source import PretrainingSource
from instructx_core.data.sources import SOURCES, open_data
from instructx_core.errors import InputError

WORLD = ShapesWorld()


def test_it_is_a_source_by_its_name() -> None:
    world = open_data("shapes")
    assert isinstance(world, PretrainingSource) and world.name in SOURCES
    with pytest.raises(InputError, match="'films'; known: shapes"):
        open_data("films")
    with pytest.raises(InputError, match="takes no path"):
        open_data("shapes:folder")


@pytest.mark.parametrize("bucket", WORLD.buckets("train"), ids=str)
def test_edits_are_those_of_the_world(bucket: Bucket) -> None:
    tasks = [
        task for task in shapes.tasks_of("train", bucket.modality) if task.startswith("reference") == bucket.reference
    ]
    for number in (0, 12):
        edit, task = WORLD.edit("train", number, bucket), WORLD.task("train", number, bucket)
        sample = shapes.sample("train", number, bucket.modality, task)
        assert edit.task == task == tasks[number % len(tasks)]
        assert edit.target_FHWC.shape == edit.source_FHWC.shape == (bucket.frames, bucket.height, bucket.width, 3)
        assert np.array_equal(edit.target_FHWC, sample.target_FHWC) and edit.instruction == sample.instruction
        assert (edit.reference_HWC is not None) == bucket.reference
        assert edit.judge is not None and edit.judge(edit.target_FHWC) and not edit.judge(edit.source_FHWC)


def test_scenes_and_their_questions() -> None:
    bucket = Bucket("image", 1, 64, 64)
    scene = WORLD.scene("val", 3, bucket)
    frames_FHWC, caption, drawn = shapes.scene_sample("val", 3, "image")
    assert np.array_equal(scene.frames_FHWC, frames_FHWC) and scene.caption == caption
    asked = scene.questions(np.random.default_rng(1))
    assert asked == shapes.qa_pairs(drawn, np.random.default_rng(1))


@pytest.mark.parametrize("modality", ["image", "video"])
def test_pictures_of_edits(modality: str) -> None:
    bucket = Bucket(modality, shapes.FRAMES[modality], 64, 64)
    for number, kind in enumerate(PICTURES[modality]):
        picture = WORLD.picture("train", number, bucket)
        assert picture.frames_FHWC.dtype == np.uint8 and picture.frames_FHWC.shape[1:] == (64, 64, 3)
        assert len(picture.frames_FHWC) == (1 if kind == "reference" else bucket.frames)
        assert bool(picture.regions) == (kind not in ("scene", "reference"))
        if kind in shapes.TASKS:
            assert np.array_equal(picture.frames_FHWC, shapes.sample("train", number, modality, kind).target_FHWC)
