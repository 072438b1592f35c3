"""SCALES: where the study runs. tiny: the shipped model's recipes and world; shapes: a start that exists today;
rehearsal: the same in a few steps; paper: the paper's presets, public data, FSDP2 (paper_size.py).

Beside experiments.py, below what runs them. Steps and samples are the result of power.py and of the budget of 24 CPU
hours (docs/study.md).
"""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from ..training.recipes.base import FROM_BASE
from ..training.recipes.tiny import PARTS
from .schedule import Scale

# What all variants of the small scales share. The learning rate is constant, so that a run of half the steps is the
# first half of the whole one.
SMALL: dict[str, Any] = {
    "precision": "fp32",
    "learning_rate": 1e-3,
    "warmup_steps": 50,
    "ema_decay": 0.995,
    "image_batch": 16,
    "micro_image_batch": 16,
    "video_batch": 8,
    "micro_video_batch": 8,
    "image_validation": 0,
    "video_validation": 0,
    "image_reference_validation": 0,
    "video_reference_validation": 0,
    "sample_every": 0,
    "validate_every": 0,
    "save_every": 250,
}
ALIGN: dict[str, Any] = SMALL | {
    "num_steps": 500,
    "source_latents": False,
    "shift": 3.0,
    "image_pool": 8_000,
    "image_validation": 60,
    "validate_every": 50,
}
EDIT: dict[str, Any] = SMALL | {
    "num_steps": 1_000,
    "weighting": "none",
    "shift": 6.0,
    "video_probability": 0.6,
    "image_pool": 8_000,
    "video_pool": 1_600,
    "pool_start": 20_000,
}
START = ("study_vae", "study_mllm", "study_dit")  # of start.py

# Of 360 images and 470 clips of the test split, counted (tests/study/test_groups.py). The world `shapes` has no small
# objects, and all of its things are there from the start.
OF_SHAPES = {"video": 366, "all": 726, "small objects": 0, "zero-shot clips": 104, "appears in the middle": 0}
OF_WORLD = {"video": 378, "all": 738, "small objects": 44, "zero-shot clips": 92, "appears in the middle": 20}
TINY = Scale(
    name="tiny",
    preset="tiny2",
    start=PARTS,
    align=ALIGN | {"data": "world"},
    edit=EDIT | {"data": "world"},
    images=360,
    clips=470,
    groups=OF_WORLD | {"there from the start": 450},
    extra={"small objects": 210, "zero-shot clips": 130, "appears in the middle": 180},
)
SHAPES = Scale(
    name="shapes",
    preset="tiny",
    start=START,
    align=ALIGN | {"data": "shapes"},
    edit=EDIT | {"data": "shapes"},
    images=360,
    clips=470,
    groups=OF_SHAPES | {"there from the start": 470},
    extra={"zero-shot clips": 120},
)
FEW: dict[str, Any] = {
    "data": "shapes",
    "num_steps": 4,
    "warmup_steps": 1,
    "image_batch": 2,
    "video_batch": 2,
    "micro_image_batch": 2,
    "micro_video_batch": 2,
    "image_pool": 4,
    "validate_every": 2,
    "image_validation": 2,
    "save_every": 2,
}
REHEARSAL = Scale(
    name="rehearsal",
    preset="tiny",
    start=START,
    align=ALIGN | FEW,
    edit=EDIT | FEW | {"video_pool": 2, "pool_start": 4},
    images=4,
    clips=6,  # the sixth is of a kind that clips never train
    seeds=1,
    extra={"zero-shot clips": 2},
)
PAPER_STEPS: dict[str, Any] = {"learning_rate": 1e-5, "image_batch": 128, "video_batch": 32, "num_steps": 20_000}
PAPER = Scale(
    name="paper",
    preset="paper_14b",
    start=(FROM_BASE,),
    align=PAPER_STEPS
    | {"source_latents": False, "image_pool": 20_000 * 128, "micro_image_batch": 4, "sample_every": 0},
    edit=PAPER_STEPS
    | {
        "num_steps": 10_000,  # of Tables 5 and 6; of Fig. 4 and 9 the paper gives none
        "video_probability": 0.6,
        "image_pool": 4_000 * 128,
        "video_pool": 6_000 * 32,
        "micro_image_batch": 4,
        "micro_video_batch": 1,
        "ema_decay": 0.9999,
        "sample_every": 0,
    },
    images=737,  # ImgEdit-Bench
    clips=140,  # VIE-Bench
)
SCALES = {each.name: each for each in (TINY, SHAPES, REHEARSAL, PAPER)}


def find_scale(name: str) -> Scale:
    """Raises InputError for an unknown one."""
    if name not in SCALES:
        raise InputError(f"no scale {name!r}; known: {', '.join(SCALES)}")
    return SCALES[name]
