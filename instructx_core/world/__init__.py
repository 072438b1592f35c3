"""The procedural world, version 2: coloured things on plain, patterned or photographic grounds, still or moving, of any
size, with exact ground truth for every edit. The shipped model is of version 1 (shapes/), which goes when it does.

Data flow: canvas, palette, grounds -> scene -> draw -> edits -> render, language -> sampling -> success
(areas, stage, alternatives, whole; limits) -> benchmark; planted shows that the measure finds errors.
numpy only. Everything is a function of (split, index, modality, task, size); nothing is stored or downloaded, so any
process may render any number: `pool.map(partial(sample, "train", modality="image", size=(96, 96)), range(1000))`.
Task and size of a number are known without rendering it (task_of, bucket). A process' first samples are slower by a
second in all: tiles of noise and leaves are made once and kept.
"""

from __future__ import annotations

from .benchmark import Rate, Summary, benchmark_samples, summarise, zero_shot_clips
from .edits import REFERENCE_TASKS, TASKS
from .language import CASES, LANGUAGES, Manner, asked_pairs, caption, instruct, qa_pairs, word_pieces
from .long import jumps, part, there_and_back
from .pretraining import natural_sample, scene_sample
from .render import render
from .sampling import Object, Sample, reference_size, sample
from .scene.canvas import BUCKETS, PLACES, SIZE, WORLD_VERSION, Canvas, Size
from .scene.contents import FRAMES, MODALITIES, Instruction, Scene, frame_times
from .scene.palette import COLORS, GROUNDS, HELD_OUT, SHAPES
from .splits import LOOKS, SPLITS, bucket, image_tasks, looks_of, task_of, tasks_of, video_tasks
from .success import RegionScore, Score, score

__all__ = [
    "BUCKETS",
    "CASES",
    "COLORS",
    "Canvas",
    "FRAMES",
    "GROUNDS",
    "HELD_OUT",
    "Instruction",
    "LANGUAGES",
    "LOOKS",
    "MODALITIES",
    "Manner",
    "Object",
    "PLACES",
    "REFERENCE_TASKS",
    "Rate",
    "RegionScore",
    "SHAPES",
    "SIZE",
    "SPLITS",
    "Sample",
    "Scene",
    "Score",
    "Size",
    "Summary",
    "TASKS",
    "WORLD_VERSION",
    "asked_pairs",
    "benchmark_samples",
    "bucket",
    "caption",
    "frame_times",
    "image_tasks",
    "instruct",
    "jumps",
    "looks_of",
    "natural_sample",
    "part",
    "qa_pairs",
    "reference_size",
    "render",
    "sample",
    "scene_sample",
    "score",
    "summarise",
    "task_of",
    "tasks_of",
    "there_and_back",
    "video_tasks",
    "word_pieces",
    "zero_shot_clips",
]
