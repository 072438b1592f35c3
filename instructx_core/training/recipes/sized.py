"""The tiny model's recipes in other sizes: for a GPU (`--recipes gpu`), and a rehearsal of a few steps.

Between tiny.py and the command line. On a GPU a step costs the same at any batch, so batches are larger and steps
fewer; the learning rate grows with the root of the batch. Pools are smaller, because sixteen cores draw them while the
GPU waits; stage 3 goes on with those of stage 2. What a step costs there was estimated, not measured. In all the stages
see a third of the samples that they see on a CPU.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from .base import Recipe
from .vae import Crops

BATCHES = {"image_batch": 256, "micro_image_batch": 256, "video_batch": 96, "micro_video_batch": 96}
FLOW = BATCHES | {"precision": "auto", "learning_rate": 2e-3, "validate_every": 0, "sample_every": 0, "save_every": 500}
STAGE = {"image_pool": 36_000, "image_reference_pool": 17_000, "video_pool": 2_400, "video_reference_pool": 1_400}
CHANGES: dict[str, dict[str, Any]] = {
    "tiny_vae": FLOW
    | {
        "num_steps": 1_200,
        "learning_rate": 1e-3,  # Muon's updates have the same size at any batch (of tiny_mllm too)
        "image_batch": 64,
        "video_batch": 16,
        "crops": (Crops(32, 0.5, 256, 64), Crops(64, 0.3, 128, 32)),
        "image_pool": 12_000,
        "video_pool": 600,
    },
    "tiny_mllm": FLOW | {"muon_scale": 1.0, "num_steps": 1_000, "image_pool": 24_000, "video_pool": 1_200},
    "tiny_dit": FLOW | {"num_steps": 500, "image_pool": 12_000, "video_pool": 800},
    "tiny_stage1": FLOW | {"num_steps": 150, "image_pool": 36_000},
    "tiny_stage2": FLOW | STAGE | {"num_steps": 1_300},
    "tiny_stage3": FLOW | STAGE | {"num_steps": 1_100, "pool_start": 0},
}


def for_gpu(recipe: Recipe) -> Recipe:
    """Of a recipe of the tiny model; others stay as they are."""
    return dataclasses.replace(recipe, **CHANGES.get(recipe.name, {}))


REHEARSAL: dict[str, Any] = {
    "num_steps": 4,
    "save_every": 2,
    "validate_every": 4,
    "sample_every": 4,
    "image_batch": 4,
    "micro_image_batch": 4,
    "video_batch": 2,
    "micro_video_batch": 2,
    "crops": (Crops(32, 0.5, 4, 2),),
    "image_pool": 3,
    "video_pool": 1,
    "image_reference_pool": 3,
    "video_reference_pool": 1,
    "image_validation": 2,
    "video_validation": 1,
    "image_reference_validation": 2,
    "video_reference_validation": 1,
    "pool_start": 1,
}


def rehearsal(recipe: Recipe) -> Recipe:
    """A few steps on a few samples: whether all of it runs. What the recipe has none of stays so."""
    names = {field.name for field in dataclasses.fields(recipe)}
    changes = {name: value for name, value in REHEARSAL.items() if name in names and getattr(recipe, name)}
    return dataclasses.replace(recipe, **changes)
