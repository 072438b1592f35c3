"""The procedural world `shapes`, version 1, as a data source: adapter between its samples and what the jobs ask for.

The only file of data/ and training/ that imports it; it goes with the model that was trained on it. Nothing is stored;
a sample is drawn anew from its number, and its judge is the world's own measure of success.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from .. import shapes
from ..errors import InputError
from ..random_streams import random_stream
from .bucket import Bucket
from .samples import EditSample, PictureSample, SceneSample

ENDLESS = 10**9  # numbers of a split; any larger one would do
TEXT_SAMPLES = 1500  # per kind of text of `texts`

# What `picture` shows in turn. The hard ones, fine lines and patterns, have kinds of their own.
PICTURES = {
    "image": ("scene", "edit", "style", "reference_add", "reference_swap", "reference"),
    "video": ("scene", "edit", "reference_add", "reference_swap"),
}


class ShapesWorld:
    """64x64 pixels, images and clips of 17 frames, with and without a reference (data/source.py::PretrainingSource)."""

    name = "shapes"
    version = "1"

    def buckets(self, split: str) -> tuple[Bucket, ...]:
        return tuple(
            Bucket(modality, shapes.FRAMES[modality], shapes.SIZE, shapes.SIZE, reference)
            for modality in shapes.MODALITIES
            for reference in (False, True)
        )

    def size(self, split: str, bucket: Bucket) -> int:
        return ENDLESS

    def task(self, split: str, number: int, bucket: Bucket) -> str:
        """The kinds of the bucket in turn."""
        tasks = bucket_tasks(split, bucket)
        return tasks[number % len(tasks)]

    def edit(self, split: str, number: int, bucket: Bucket) -> EditSample:
        return as_edit(shapes.sample(split, number, bucket.modality, self.task(split, number, bucket)))

    def scene(self, split: str, number: int, bucket: Bucket) -> SceneSample:
        looks = shapes.looks_of(bucket.modality)
        frames_FHWC, caption, scene = shapes.scene_sample(split, number, bucket.modality, looks)
        return SceneSample(frames_FHWC, caption, partial(shapes.qa_pairs, scene))

    def picture(self, split: str, number: int, bucket: Bucket) -> PictureSample:
        kinds = PICTURES[bucket.modality]
        kind = kinds[number % len(kinds)]
        if kind == "scene":
            return PictureSample(self.scene(split, number, bucket).frames_FHWC)
        if kind == "edit":
            edit = self.edit(split, number, bucket)
        else:
            task = "reference_add" if kind == "reference" else kind
            edit = as_edit(shapes.sample(split, number, bucket.modality, task))
        if kind == "reference":
            assert edit.reference_HWC is not None
            return PictureSample(edit.reference_HWC[None])
        return PictureSample(edit.target_FHWC, edit.regions)

    def texts(self) -> Iterator[str]:
        """Instructions, captions, questions and answers of training samples."""
        for number in range(TEXT_SAMPLES):
            edit = shapes.sample("train", number)
            yield from (edit.instruction, edit.caption)
            _, caption, scene = shapes.scene_sample("train", number)
            yield caption
            generator = random_stream(number)
            for question, answer in shapes.qa_pairs(scene, generator):
                yield from (question, answer)


def open_shapes(rest: str) -> ShapesWorld:
    """The world of the spec "shapes". Raises InputError when the spec says more."""
    if rest:
        raise InputError(f"shapes:{rest}: the world is drawn, not read, and takes no path; give shapes alone")
    return ShapesWorld()


def bucket_tasks(split: str, bucket: Bucket) -> tuple[str, ...]:
    """The kinds of edit of a bucket: those that need a reference, or all others."""
    tasks = shapes.tasks_of(split, bucket.modality)
    return tuple(task for task in tasks if (task in shapes.REFERENCE_TASKS) == bucket.reference)


def as_edit(sample: shapes.Sample) -> EditSample:
    return EditSample(
        source_FHWC=sample.source_FHWC,
        target_FHWC=sample.target_FHWC,
        instruction=sample.instruction,
        task=sample.task,
        reference_HWC=sample.reference_HWC,
        caption=sample.caption,
        regions=sample.regions,
        judge=partial(has_succeeded, sample),
    )


def has_succeeded(sample: shapes.Sample, prediction_FHWC: np.ndarray) -> bool:
    """The world's own measure (shapes/success.py)."""
    return shapes.score(sample, prediction_FHWC).success
