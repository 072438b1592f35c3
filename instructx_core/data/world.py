"""The procedural world, version 2, as a data source: adapter between its samples and what the jobs ask for.

The only file of data/ and training/ that imports it. Nothing is stored; a sample is drawn anew from its number, in any
process, and its judge is the world's own measure of success. Buckets have numbers of their own: the same number shows
another scene at another size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import count

import numpy as np

from .. import world
from ..errors import InputError
from ..random_streams import random_stream
from .bucket import Bucket
from .samples import EditSample, PictureSample, SceneSample

ENDLESS = 10**9  # numbers of a split; any larger one would do
FAR = 10**12  # beyond all numbers of all buckets
TEXT_SAMPLES = 1500  # per kind of text of `texts`
WORDINGS = 7  # of an edit, beside the first

# What `picture` shows in turn: natural pictures for the statistics of photographs, scenes some of which have a look,
# what edits make, and of that the hard ones, fine lines and patterns, as kinds of their own.
PICTURES = {
    "image": ("natural", "edit", "natural", "reference", "scene", "natural", "drawing", "reference_swap", "edit"),
    "video": ("edit", "natural", "reference_add", "drawing", "edit", "scene"),
}


class World:
    """Images and clips of 17 frames in the world's sizes, with and without a reference of the same size or 64x64
    (data/source.py::PretrainingSource)."""

    name = "world"
    version = str(world.WORLD_VERSION)

    def buckets(self, split: str) -> tuple[Bucket, ...]:
        return tuple(
            bucket
            for modality in world.MODALITIES
            for size in world.BUCKETS[modality]
            for bucket in buckets_of(modality, size)
        )

    def size(self, split: str, bucket: Bucket) -> int:
        return ENDLESS

    def task(self, split: str, number: int, bucket: Bucket) -> str:
        """The kinds of the bucket in turn."""
        tasks = bucket_tasks(split, bucket)
        return tasks[number % len(tasks)]

    def edit(self, split: str, number: int, bucket: Bucket) -> EditSample:
        return as_edit(draw_sample(split, number, bucket, self.task(split, number, bucket)))

    def scene(self, split: str, number: int, bucket: Bucket) -> SceneSample:
        index, looks = index_of(split, number, bucket), world.looks_of(bucket.modality)
        size = bucket.height, bucket.width
        frames_FHWC, caption, scene = world.scene_sample(split, index, bucket.modality, looks, size)
        return SceneSample(frames_FHWC, caption, partial(world.qa_pairs, scene))

    def picture(self, split: str, number: int, bucket: Bucket) -> PictureSample:
        kinds, index = PICTURES[bucket.modality], index_of(split, number, bucket)
        kind, size = kinds[number % len(kinds)], (bucket.height, bucket.width)
        if kind == "natural":
            return PictureSample(world.natural_sample(split, index, bucket.modality, size)[0])
        if kind == "scene":  # of a clip too in any look: a VAE is not told what to do
            return PictureSample(world.scene_sample(split, index, bucket.modality, size=size)[0])
        if kind == "drawing":
            scene = world.scene_sample(split, index, bucket.modality, (), size)[2]
            return PictureSample(world.render(replace(scene, look="outline"), world.frame_times(bucket.modality)))
        if kind == "edit":
            tasks = bucket_tasks(split, bucket)
            edit = draw_sample(split, number, bucket, tasks[number // len(kinds) % len(tasks)])
            return PictureSample(edit.target_FHWC, edit.regions)
        task = "reference_add" if kind == "reference" else kind
        edit = draw_sample(split, number, replace(bucket, reference=True), task)
        if kind == "reference":
            assert edit.reference_HWC is not None
            return PictureSample(edit.reference_HWC[None])
        return PictureSample(edit.target_FHWC, edit.regions)

    def texts(self) -> Iterator[str]:
        """Instructions, captions, questions and answers of training samples, in pieces that tokens must not cross."""
        for number in range(TEXT_SAMPLES):
            for text in texts_of(number):
                yield from world.word_pieces(text)


def buckets_of(modality: str, size: world.Size) -> Iterator[Bucket]:
    """The buckets of a size: without a reference, with one of that size, with one of 64x64."""
    shape = (modality, world.FRAMES[modality], *size)
    yield Bucket(*shape)
    yield Bucket(*shape, reference=True)
    if size != (world.SIZE, world.SIZE):
        yield Bucket(*shape, reference=True, reference_size=(world.SIZE, world.SIZE))


def open_world(rest: str) -> World:
    """The world of the spec "world". Raises InputError when the spec says more."""
    if rest:
        raise InputError(f"world:{rest}: the world is drawn, not read, and takes no path; give world alone")
    return World()


def bucket_tasks(split: str, bucket: Bucket) -> tuple[str, ...]:
    """The kinds of edit of a bucket: those that need a reference, or all others."""
    tasks = world.tasks_of(split, bucket.modality)
    return tuple(task for task in tasks if (task in world.REFERENCE_TASKS) == bucket.reference)


def index_of(split: str, number: int, bucket: Bucket) -> int:
    """The world's own number, another one in each size; with a reference, the first whose reference has its size."""
    size, sizes = (bucket.height, bucket.width), world.BUCKETS[bucket.modality]
    if size not in sizes:
        raise InputError(f"the world has no bucket {bucket}; its sizes are {sizes} (height, width)")
    first = number * len(sizes) + sizes.index(size)
    if not bucket.reference or size == (world.SIZE, world.SIZE):
        return first
    return next(
        index
        for index in count(first, FAR)
        if world.reference_size(split, index, bucket.modality, size) == bucket.reference_shape
    )


def draw_sample(split: str, number: int, bucket: Bucket, task: str) -> world.Sample:
    """An edit of that kind, of the number and size that the bucket has it in. Raises InputError as index_of."""
    size = bucket.height, bucket.width
    return world.sample(split, index_of(split, number, bucket), bucket.modality, task, size)


def as_edit(sample: world.Sample) -> EditSample:
    """What the jobs ask of a sample, with other wordings and questions that are drawn from its number."""
    return EditSample(
        source_FHWC=sample.source_FHWC,
        target_FHWC=sample.target_FHWC,
        instruction=sample.instruction,
        task=sample.task,
        reference_HWC=sample.reference_HWC,
        caption=sample.caption,
        regions=sample.regions,
        judge=partial(has_succeeded, sample),
        wordings=tuple(say(sample, random_stream(sample.index, number)).text for number in range(WORDINGS)),
        questions=partial(question_pairs, sample),
    )


def say(sample: world.Sample, rng: np.random.Generator) -> world.Instruction:
    """The edit asked for in other words, of any manner and language; never in those held out for "test"."""
    split = "train" if sample.split == "test" else sample.split
    return world.instruct(rng, sample.changes, sample.is_ordered, split, sample.modality)


def question_pairs(sample: world.Sample, rng: np.random.Generator) -> list[tuple[str, str]]:
    """An instruction, answered by the target in the words of its language, and questions about it."""
    instruction = say(sample, rng)
    return [
        (instruction.text, world.caption(sample.target_scene, instruction.language)),
        *world.asked_pairs(sample.changes, instruction, rng),
    ]


def has_succeeded(sample: world.Sample, prediction_FHWC: np.ndarray) -> bool:
    """The world's own measure (world/success.py)."""
    return world.score(sample, prediction_FHWC).success


def texts_of(number: int) -> Iterator[str]:
    """Everything that is said of two training samples of that number."""
    edit = world.sample("train", number)
    _, caption, scene = world.scene_sample("train", number)
    yield caption
    rng = random_stream(number)
    for question, answer in question_pairs(edit, rng) + world.qa_pairs(scene, rng):
        yield from (question, answer)
