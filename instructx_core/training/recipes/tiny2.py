"""The recipes of the next tiny model, on version 2 of the procedural world, in the order in which they run.

It has no pretrained parts to start from, so the first ones train counterparts of the Wan VAE, of Qwen2.5-VL and of the
Wan DiT; three stages follow as in the paper.
"""

from __future__ import annotations

from typing import Any

from .vae import Crops, VaeRecipe

COMMON: dict[str, Any] = {
    "preset": "tiny2",
    "data": "world",
    "learning_rate": 1e-3,
    "warmup_steps": 100,
    "ema_decay": 0.998,
}


def tiny_vae() -> VaeRecipe:
    """Images and clips of all sizes, natural pictures, and what edits make: lines, patterns, reference pictures."""
    values = COMMON | {
        "name": "tiny_vae",
        "description": "the VAE on images and clips",
        "num_steps": 12_000,
        "precision": "bf16",
        "learning_rate_decay": "linear",
        "weight_decay": 0.0,
        "muon_scale": 2.0,
        "image_pool": 18_000,
        "video_pool": 800,
        "crops": (
            Crops(side=32, share=0.6, image_batch=32, video_batch=8),
            Crops(side=64, share=0.25, image_batch=16, video_batch=4),
        ),
        "image_batch": 8,
        "video_batch": 2,
        "micro_image_batch": 16,
        "micro_video_batch": 4,
        "video_probability": 0.15,
        "image_validation": 90,
        "video_validation": 8,
        "save_every": 500,
        "validate_every": 1000,
        "sample_every": 2000,
    }
    return VaeRecipe(**values)
