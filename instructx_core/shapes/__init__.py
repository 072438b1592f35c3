"""The procedural world: coloured shapes on simple grounds, still or moving, with exact ground truth for every edit.

Data flow: palette -> scene -> render; scene -> wordings -> edits -> sampling -> success -> benchmark. numpy only.
Everything is a function of (split, index, modality, task); nothing is stored or downloaded.
"""

from __future__ import annotations

from .benchmark import Rate, Summary, benchmark_samples, summarise
from .edits import REFERENCE_TASKS, TASKS
from .long import jumps, part, there_and_back
from .palette import COLORS, GROUNDS, HELD_OUT, PLACES, SHAPES, SIZE
from .questions import qa_pairs
from .render import render
from .sampling import LOOKS, SPLITS, Sample, image_tasks, looks_of, sample, scene_sample, tasks_of, video_tasks
from .scene import FRAMES, MODALITIES, Scene, frame_times
from .success import RegionScore, Score, score
from .wordings import caption

__all__ = [
    "COLORS",
    "FRAMES",
    "GROUNDS",
    "HELD_OUT",
    "LOOKS",
    "MODALITIES",
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
    "Summary",
    "TASKS",
    "benchmark_samples",
    "caption",
    "frame_times",
    "image_tasks",
    "jumps",
    "looks_of",
    "part",
    "qa_pairs",
    "render",
    "sample",
    "scene_sample",
    "score",
    "summarise",
    "tasks_of",
    "there_and_back",
    "video_tasks",
]
