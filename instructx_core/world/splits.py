"""Splits, tasks and sizes by number: which random stream belongs to (split, index, modality), and what it may draw.

Place: edits -> splits -> sampling, pretraining. Splits have disjoint seeds. Style and segmentation are never drawn for
training clips: their transfer from images to video is tested zero-shot (paper Fig. 6). All functions are pure: a worker
process, a sampler of batches and the trainer agree on a sample's task and size without rendering it.
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from ..random_streams import random_stream
from .edits import TASKS
from .scene.canvas import BUCKETS, Canvas, Size, canvas_of
from .scene.contents import MODALITIES
from .scene.draw import choose

SPLITS = ("train", "val", "test")
HELD_OUT_SHARE = 0.3  # of the samples of "test"
NEVER_ON_TRAINING_VIDEO = ("style", "segment")
LOOKS = ("style", "tone", "segment", "pattern")
# Never trained on as clips: the transfer from images is tested zero-shot (paper Fig. 6).
ZERO_SHOT_LOOKS = ("style", "segment")
_STREAMS = {"edit": 0, "task": 1, "scene": 2, "size": 3, "words": 4, "reference": 5, "natural": 6}


def image_tasks(split: str) -> tuple[str, ...]:
    """Tasks drawn for images of a split."""
    check_split(split)
    return TASKS


def video_tasks(split: str) -> tuple[str, ...]:
    """Tasks drawn for clips of a split: style and segmentation only in "test"."""
    check_split(split)
    return TASKS if split == "test" else tuple(task for task in TASKS if task not in NEVER_ON_TRAINING_VIDEO)


def tasks_of(split: str, modality: str) -> tuple[str, ...]:
    """Tasks drawn for a split and a modality."""
    check_modality(modality)
    return image_tasks(split) if modality == "image" else video_tasks(split)


def looks_of(modality: str) -> tuple[str, ...]:
    """Looks that training scenes of a modality may carry (`scene_sample`)."""
    check_modality(modality)
    return LOOKS if modality == "image" else tuple(look for look in LOOKS if look not in ZERO_SHOT_LOOKS)


def check_split(split: str) -> None:
    if split not in SPLITS:
        raise InputError(f"split {split!r} is unknown; use one of {', '.join(SPLITS)}")


def check_modality(modality: str) -> None:
    if modality not in MODALITIES:
        raise InputError(f"modality {modality!r} is unknown; use one of {', '.join(MODALITIES)}")


def generator(stream: str, split: str, index: int, modality: str, task: int = 0) -> np.random.Generator:
    """The random stream of that purpose and number. Raises InputError for an unknown split or a wrong index."""
    check_split(split)
    check_modality(modality)
    if isinstance(index, bool) or int(index) != index or index < 0:
        raise InputError(f"index {index!r} must be an integer >= 0")
    key = (_STREAMS[stream], SPLITS.index(split), MODALITIES.index(modality), task, int(index))
    return random_stream(*key)


def task_of(split: str, index: int, modality: str = "image") -> str:
    """The task that sample() draws for that number: one of the split's, evenly."""
    return choose(generator("task", split, index, modality), tasks_of(split, modality))


def bucket(split: str, index: int, modality: str = "image") -> Size:
    """The size (height, width) of that number when it is to be drawn: one of BUCKETS, evenly."""
    return choose(generator("size", split, index, modality), BUCKETS[modality])


def canvas_for(split: str, index: int, modality: str, size: Size | None) -> Canvas:
    """The canvas of that size, or of the number's bucket where it is None."""
    return canvas_of(bucket(split, index, modality) if size is None else size)
