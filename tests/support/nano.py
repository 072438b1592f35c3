"""A model of a few ten thousand parameters and recipes of a few steps: the real jobs, in a second."""

from __future__ import annotations

import dataclasses
from typing import Any

from instructx_core.config import InstructXConfig, MllmConfig, VaeConfig, VisionConfig, tiny
from instructx_core.training.recipes.edit import EditRecipe
from instructx_core.training.recipes.paper import stage1, stage2


def nano() -> InstructXConfig:
    base = tiny()
    return dataclasses.replace(
        base,
        mllm=MllmConfig(
            vocab_size=1024,
            hidden_size=32,
            intermediate_size=32,
            num_layers=1,
            num_heads=2,
            num_kv_heads=1,
            mrope_section=(2, 3, 3),
            vision=VisionConfig(depth=1, hidden_size=32, intermediate_size=32, num_heads=2, full_attention_blocks=(0,)),
        ),
        lora=dataclasses.replace(base.lora, rank=2, alpha=2),
        denoiser=dataclasses.replace(base.denoiser, dim=128, ffn_dim=64, num_layers=1, num_heads=1),
        vae=VaeConfig(base_dim=4),
    )


def small_vae() -> InstructXConfig:
    """With the narrowest VAE that training/vae_start.py takes."""
    return dataclasses.replace(nano(), vae=VaeConfig(base_dim=8))


POOLS: dict[str, int] = {
    "image_pool": 4,
    "image_reference_pool": 4,
    "video_pool": 2,
    "video_reference_pool": 2,
}
FAST: dict[str, Any] = {
    "preset": "tiny",
    "data": "shapes",
    "precision": "fp32",
    "learning_rate": 1e-3,
    "warmup_steps": 2,
    "image_batch": 4,
    "video_batch": 2,
    "micro_image_batch": 2,
    "micro_video_batch": 2,
    "save_every": 2,
    "validate_every": 0,
    "sample_every": 0,
    "requires": (),
}


def nano_stage1(**overrides: Any) -> EditRecipe:
    return dataclasses.replace(stage1(), **FAST | {"num_steps": 4, "image_pool": 4} | overrides)


def nano_stage2(**overrides: Any) -> EditRecipe:
    return dataclasses.replace(stage2(), **FAST | POOLS | {"num_steps": 6, "ema_decay": 0.9} | overrides)
