"""The six recipes of the tiny model, in the order in which they run (docs/training.md); TINY names them.

It has no pretrained parts to start from, so the first three train counterparts of the Wan VAE, of Qwen2.5-VL and of the
Wan DiT; three stages follow as in the paper.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from .edit import EditRecipe
from .mllm import MllmRecipe
from .paper import stage1, stage2, stage3
from .text_to_video import TextToVideoRecipe
from .vae import Crops, VaeRecipe

TINY = ("tiny_vae", "tiny_mllm", "tiny_dit", "tiny_stage1", "tiny_stage2", "tiny_stage3")
PARTS = TINY[:3]
HOURS = {  # on two cores with AVX-512 BF16, from the time of single steps; without what else runs there
    "tiny_vae": 1.7,
    "tiny_mllm": 0.8,
    "tiny_dit": 0.5,
    "tiny_stage1": 0.7,
    "tiny_stage2": 4.1,
    "tiny_stage3": 4.4,
}
COMMON: dict[str, Any] = {
    "preset": "tiny2",
    "data": "world",
    "precision": "native",  # a step takes three quarters of the time where the processor multiplies bf16
    "learning_rate": 1e-3,
    "warmup_steps": 100,
    "ema_decay": 0.998,
    "image_batch": 32,
    "video_batch": 16,
    "micro_image_batch": 32,
    "micro_video_batch": 16,
}
EDIT: dict[str, Any] = COMMON | {
    "image_validation": 90,  # as often each of ten kinds and nine sizes
    "image_reference_validation": 34,
    "video_validation": 32,
    "video_reference_validation": 14,
    "validate_every": 3000,
    "sample_every": 6000,
}


def tiny_vae() -> VaeRecipe:
    """Images and clips of all sizes, natural pictures, and what edits make: lines, patterns, reference pictures."""
    values = COMMON | {
        "name": "tiny_vae",
        "description": "the VAE on images and clips",
        "precision": "fp32",  # what bf16 rounds off is what it has to learn last
        "num_steps": 8_000,
        "learning_rate_decay": "linear",
        "weight_decay": 0.0,
        "muon_scale": 2.0,
        "image_pool": 18_000,
        "video_pool": 800,
        "crops": (
            Crops(side=32, share=0.72, image_batch=32, video_batch=4),
            Crops(side=64, share=0.18, image_batch=16, video_batch=2),
        ),
        "image_batch": 8,
        "video_batch": 2,
        "micro_image_batch": 16,
        "micro_video_batch": 4,
        "video_probability": 0.5,  # with 0.15 photos were better by 0.7 dB, and clips about the same (docs/training.md)
        "image_validation": 90,
        "video_validation": 8,
        "validate_every": 1000,
        "sample_every": 2000,
    }
    return VaeRecipe(**values)


def tiny_mllm() -> MllmRecipe:
    """Reads instructions from the start: words that it has not read can't be learnt later, when it is frozen."""
    values = COMMON | {
        "name": "tiny_mllm",
        "description": "the MLLM describes, locates and reads instructions",
        "num_steps": 8_000,
        "learning_rate_decay": "linear",
        "muon_scale": 2.0,
        "video_probability": 0.2,
        "image_pool": 40_000,
        "video_pool": 2_000,
        "image_validation": 288,
        "video_validation": 32,
        "validate_every": 1000,
        "sample_every": 4000,
    }
    return MllmRecipe(**values)


def tiny_dit() -> TextToVideoRecipe:
    """Scenes from their captions, as the Wan DiT has learnt it before it edits."""
    values = COMMON | {
        "name": "tiny_dit",
        "description": "the DiT draws scenes from captions",
        "requires": ("tiny_vae",),
        "num_steps": 6_000,
        "shift": 3.0,
        "video_probability": 0.3,
        "image_pool": 18_000,
        "video_pool": 1_200,
        "validate_every": 1000,
        "sample_every": 2000,
    }
    return TextToVideoRecipe(**values)


def tiny_stage1() -> EditRecipe:
    """Queries, LoRA and connector on images; the DiT is frozen and sees no source."""
    values = EDIT | {
        "name": "tiny_stage1",
        "requires": PARTS,
        "num_steps": 1_500,
        "shift": 3.0,
        "image_pool": 72_000,
    }
    return dataclasses.replace(stage1(), **values)


def tiny_stage2() -> EditRecipe:
    """Every noise level weighted alike, and more of the high ones.

    The bell all but ignores sigma near 1, where it is decided what will be edited; shift 6 draws more of it.
    """
    values = EDIT | {
        "name": "tiny_stage2",
        "requires": (*PARTS, "tiny_stage1"),
        "num_steps": 26_000,
        "weighting": "none",
        "shift": 6.0,
        "video_probability": 0.3,
        "reference_probability": 0.4,
        "image_pool": 72_000,
        "image_reference_pool": 36_000,
        "video_pool": 4_000,
        "video_reference_pool": 2_100,
    }
    return dataclasses.replace(stage2(), **values)


def tiny_stage3() -> EditRecipe:
    """On as many samples again that no stage has seen, at a rate that falls to zero."""
    values = dataclasses.asdict(tiny_stage2()) | {
        "name": "tiny_stage3",
        "description": "as stage 2 on other samples, learning rate to zero",
        "requires": (*PARTS, "tiny_stage1", "tiny_stage2"),
        "num_steps": 28_000,
        "learning_rate_decay": "linear",
        "pool_start": 100_000,
    }
    return dataclasses.replace(stage3(), **values)
