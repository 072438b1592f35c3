"""The recipes of the tiny model, in the order in which they run (docs/training.md).

It has no pretrained parts to start from, so the first five train counterparts of the Wan VAE, of Qwen2.5-VL and of the
Wan DiT; three stages follow as in the paper. tiny2.py has the VAE.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from .edit import EditRecipe
from .mllm import MllmRecipe
from .paper import stage1, stage2, stage3
from .text_to_video import TextToVideoRecipe

PARTS = ("tiny_vae", "tiny_mllm", "tiny_mllm_words", "tiny_dit")
COMMON: dict[str, Any] = {
    "preset": "tiny",
    "data": "shapes",
    "precision": "fp32",
    "learning_rate": 1e-3,
    "warmup_steps": 100,
    "ema_decay": 0.998,
    "image_batch": 32,
    "video_batch": 16,
    "micro_image_batch": 32,
    "micro_video_batch": 16,
}
EDIT: dict[str, Any] = COMMON | {
    "shift": 3.0,
    "reference_probability": 0.3,
    "image_validation": 54,  # as often each of the nine kinds that images without a reference are of
    "image_reference_validation": 16,
    "video_validation": 14,  # and each of seven
    "video_reference_validation": 6,
}


def tiny_mllm() -> MllmRecipe:
    values = COMMON | {
        "name": "tiny_mllm",
        "description": "the MLLM describes and locates",
        "num_steps": 3000,
        "learning_rate_decay": "linear",
        "video_probability": 0.3,
        "image_validation": 128,
        "video_validation": 32,
    }
    return MllmRecipe(**values)


def tiny_mllm_words() -> MllmRecipe:
    """The language of editing (docs/training.md). The vision tower stays, and with it the pools of encoded pictures."""
    return dataclasses.replace(
        tiny_mllm(),
        name="tiny_mllm_words",
        description="the MLLM's language model reads instructions as well",
        requires=("tiny_mllm",),
        part="language_model",
        num_steps=2000,
        learning_rate=7e-4,
        video_probability=0.2,
        instruction_share=0.6,
    )


def tiny_dit() -> TextToVideoRecipe:
    values = COMMON | {
        "name": "tiny_dit",
        "description": "the DiT draws scenes from captions",
        "requires": ("tiny_vae",),
        "num_steps": 1500,
        "shift": 3.0,
        "video_probability": 0.4,
        "image_pool": 6_000,
        "video_pool": 400,
    }
    return TextToVideoRecipe(**values)


def tiny_stage1() -> EditRecipe:
    values = EDIT | {
        "name": "tiny_stage1",
        "requires": PARTS,
        "num_steps": 500,
        "image_pool": 20_000,
        "reference_probability": 0.0,
    }
    return dataclasses.replace(stage1(), **values)


def tiny_stage2() -> EditRecipe:
    values = EDIT | {
        "name": "tiny_stage2",
        "requires": (*PARTS, "tiny_stage1"),
        "num_steps": 3000,
        "image_pool": 20_000,
        "image_reference_pool": 6_000,
        "video_pool": 2_400,
        "video_reference_pool": 800,
    }
    return dataclasses.replace(stage2(), **values)


def tiny_stage3() -> EditRecipe:
    """Larger pools, and every noise level weighted alike.

    The bell all but ignores sigma near 1, where it is decided what will be edited; shift 6 draws more of it.
    """
    values = EDIT | {
        "name": "tiny_stage3",
        "description": "as stage 2 on more samples, noise levels weighted alike, learning rate to zero",
        "requires": (*PARTS, "tiny_stage1", "tiny_stage2"),
        "num_steps": 5600,
        "learning_rate_decay": "cooldown",
        "weighting": "none",
        "shift": 6.0,
        "video_probability": 0.35,  # images hold eleven tasks, clips nine, and a batch of clips takes twice as long
        "image_pool": 45_000,
        "image_reference_pool": 16_000,
        "video_pool": 3_600,
        "video_reference_pool": 1_200,
        "tasks": ("add", "background", "color", "remove", "segment", "style", *("swap", "hybrid", "tone") * 2),
    }
    return dataclasses.replace(stage3(), **values)
