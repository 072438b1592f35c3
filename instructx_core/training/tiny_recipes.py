"""The recipes of the tiny model, and RECIPES: every recipe by its name, for `instructx train NAME`.

The tiny model has no pretrained parts to start from, so `tiny_vae`, `tiny_mllm` and `tiny_dit` train its counterparts
of the Wan VAE, of Qwen2.5-VL and of the Wan DiT first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .recipes import Recipe, stage1, stage2, stage3

_TINY_PARTS = ("tiny_vae", "tiny_mllm", "tiny_dit")
_TINY: dict[str, Any] = {
    "preset": "tiny",
    "precision": "fp32",
    "learning_rate": 1e-3,
    "warmup_steps": 100,
    "ema_decay": 0.998,
    "image_batch": 32,
    "video_batch": 16,
    "micro_image_batch": 32,
    "micro_video_batch": 16,
    "shift": 3.0,
    "reference_probability": 0.3,
}


def tiny_vae_image(**overrides: Any) -> Recipe:
    """The VAE on single frames: learns in minutes from vae_start.py, and needs 2-D convolutions only."""
    values: dict[str, Any] = {
        "name": "tiny_vae_image",
        "job": "vae",
        "train": ("vae",),
        "num_steps": 3000,
        "precision": "bf16",
        "learning_rate": 1e-3,
        "learning_rate_decay": "linear",
        "warmup_steps": 30,
        "weight_decay": 0.0,
        "muon_scale": 2.0,
        "crop": 32,
        "ema_decay": 0.99,
        "image_batch": 16,
        "video_batch": 2,
        "sample_every": 500,
    }
    return Recipe(**_TINY | values | overrides)


def tiny_vae() -> Recipe:
    """The VAE on clips as well: its temporal convolutions start as the identity."""
    return tiny_vae_image(
        name="tiny_vae", requires=("tiny_vae_image",), num_steps=800, learning_rate=5e-4, video_probability=0.4
    )


def tiny_mllm() -> Recipe:
    return Recipe(
        **_TINY
        | {
            "name": "tiny_mllm",
            "job": "mllm",
            "train": ("mllm",),
            "num_steps": 3000,
            "learning_rate_decay": "linear",
            "video_batch": 16,
            "video_probability": 0.3,
        }
    )


def tiny_mllm_words() -> Recipe:
    """The language of editing (docs/training.md). The vision tower stays, and with it the pools of encoded pictures."""
    return Recipe(
        **_TINY
        | {
            "name": "tiny_mllm_words",
            "job": "mllm",
            "requires": ("tiny_mllm",),
            "train": ("mllm.language_model",),
            "num_steps": 2000,
            "learning_rate": 7e-4,
            "learning_rate_decay": "linear",
            "video_probability": 0.2,
            "instruction_share": 0.6,
        }
    )


def tiny_dit() -> Recipe:
    return Recipe(
        **_TINY
        | {
            "name": "tiny_dit",
            "job": "text_to_video",
            "requires": ("tiny_vae",),
            "train": ("denoiser", "text_encoder"),
            "num_steps": 1500,
            "video_probability": 0.4,
            "image_pool": 6_000,
            "video_pool": 400,
        }
    )


def tiny_stage1() -> Recipe:
    return stage1(
        **_TINY
        | {
            "name": "tiny_stage1",
            "requires": _TINY_PARTS,
            "num_steps": 500,
            "image_pool": 20_000,
            "reference_probability": 0.0,
        }
    )


def tiny_stage2(**overrides: Any) -> Recipe:
    return stage2(
        **_TINY
        | {
            "name": "tiny_stage2",
            "requires": (*_TINY_PARTS, "tiny_stage1"),
            "num_steps": 3000,
            "image_pool": 20_000,
            "image_reference_pool": 6_000,
            "video_pool": 2_400,
            "video_reference_pool": 800,
        }
        | overrides
    )


def tiny_stage2_flat(**overrides: Any) -> Recipe:
    """Stage 2 goes on with every noise level weighted alike, and more images."""
    values: dict[str, Any] = {
        "name": "tiny_stage2_flat",
        "requires": (*_TINY_PARTS, "tiny_stage1", "tiny_stage2"),
        "num_steps": 4400,
        "learning_rate_decay": "linear",
        "weighting": "none",  # the bell all but ignores sigma near 1, where it is decided what will be edited
        "video_probability": 0.4,  # images hold eleven tasks, clips nine, and a batch of clips takes twice as long
    }
    return tiny_stage2(**values | overrides)


def tiny_words() -> Recipe:
    """Colours and shapes by name: mostly high noise, and edits that hang on a word (docs/training.md)."""
    return tiny_stage2_flat(
        name="tiny_words",
        requires=(*_TINY_PARTS, "tiny_stage1", "tiny_stage2_flat"),
        num_steps=756,
        learning_rate_decay="constant",
        shift=8.0,
        instruction_dropout=0.0,
        tasks=("add", "swap", "color"),
        video_probability=0.0,
        reference_probability=0.0,
        image_reference_pool=0,
        video_pool=0,
        video_reference_pool=0,
    )


def tiny_stage2_mixed() -> Recipe:
    """All edits again, with more of the high noise than before the words."""
    return tiny_stage2_flat(
        name="tiny_stage2_mixed", requires=(*_TINY_PARTS, "tiny_stage1", "tiny_words"), num_steps=3200, shift=6.0
    )


def tiny_focus() -> Recipe:
    """What was weak after that: words and references. More samples, for they were fitted by heart."""
    return tiny_stage2_flat(
        name="tiny_focus",
        requires=(*_TINY_PARTS, "tiny_stage1", "tiny_stage2_mixed"),
        num_steps=3000,
        learning_rate_decay="constant",
        shift=8.0,
        instruction_dropout=0.0,
        tasks=("swap", "color", "hybrid", "tone", "style", "segment"),
        image_pool=30_000,
        image_reference_pool=10_000,
        video_probability=0.0,
        reference_probability=0.4,
        video_pool=0,
        video_reference_pool=0,
    )


def tiny_wide(**overrides: Any) -> Recipe:
    """All edits, on images and clips, from larger pools."""
    values: dict[str, Any] = {
        "name": "tiny_wide",
        "requires": (*_TINY_PARTS, "tiny_stage1", "tiny_focus"),
        "num_steps": 2500,
        "learning_rate_decay": "constant",
        "shift": 6.0,
        "image_pool": 45_000,
        "image_reference_pool": 16_000,
        "video_pool": 3_600,
        "video_reference_pool": 1_200,
        "video_probability": 0.35,
    }
    return tiny_stage2_flat(**values | overrides)


def tiny_tone() -> Recipe:
    """Brighter, darker, warmer, cooler: until here one of the four was drawn by chance (success 19 % of 32 images)."""
    return tiny_wide(
        name="tiny_tone",
        requires=(*_TINY_PARTS, "tiny_stage1", "tiny_wide"),
        num_steps=400,
        shift=8.0,
        instruction_dropout=0.0,
        tasks=("tone",),
        video_probability=0.0,
        reference_probability=0.0,
        image_reference_pool=0,
        video_pool=0,
        video_reference_pool=0,
    )


def tiny_weak(**overrides: Any) -> Recipe:
    """All edits again, the weak ones more often."""
    values: dict[str, Any] = {
        "name": "tiny_weak",
        "requires": (*_TINY_PARTS, "tiny_stage1", "tiny_tone"),
        "num_steps": 1000,
        "tasks": ("add", "background", "color", "remove", "segment", "style", *("swap", "hybrid", "tone") * 2),
    }
    return tiny_wide(**values | overrides)


def tiny_stage3() -> Recipe:
    """With an MLLM that has read the words; the learning rate falls to zero at the end."""
    return tiny_weak(
        name="tiny_stage3",
        requires=(*_TINY_PARTS, "tiny_mllm_words", "tiny_stage1", "tiny_weak"),
        num_steps=5600,
        learning_rate_decay="cooldown",
    )


def tiny_reference() -> Recipe:
    """Mostly references, which arrived in the right place and colours, but blurred; then the rate is zero for good."""
    return tiny_weak(
        name="tiny_reference",
        requires=(*_TINY_PARTS, "tiny_mllm_words", "tiny_stage1", "tiny_stage3"),
        num_steps=10_000,
        learning_rate_decay="linear",
        reference_probability=0.55,
        video_probability=0.25,
        tasks=("add", "background", "color", "remove", "segment", "tone", *("swap", "hybrid", "style") * 2),
    )


def tiny_decoder() -> Recipe:
    """The VAE's decoder on what edits make: fine lines, patterned things, reference pictures (docs/training.md).

    Its encoder stays, and with it the latents that the DiT knows.
    """
    return tiny_vae_image(
        name="tiny_decoder",
        requires=(*_TINY_PARTS, "tiny_mllm_words", "tiny_stage1", "tiny_reference"),
        train=("vae.decoder",),
        pictures="edits",
        num_steps=4000,
        learning_rate=5e-4,
        crop=0,
        video_batch=2,
        video_probability=0.15,
    )


def tiny_finish() -> Recipe:
    """All edits once more, on new samples, line drawings most often. No better than its start (docs/training.md)."""
    return tiny_weak(
        name="tiny_finish",
        requires=(*_TINY_PARTS, "tiny_mllm_words", "tiny_stage1", "tiny_reference", "tiny_decoder"),
        num_steps=3000,
        learning_rate=5e-4,
        learning_rate_decay="linear",
        reference_probability=0.3,
        video_probability=0.25,
        tasks=("add", "background", "color", "hybrid", "remove", "segment", "tone", *("swap",) * 2, *("style",) * 4),
        pool_start=100_000,
        image_pool=12_000,
        image_reference_pool=6_000,
        video_pool=800,
        video_reference_pool=300,
    )


def tiny_source() -> Recipe:
    """Compares how the source enters, on images: `--source-embedder tied` (the paper's words) and `own`."""
    return tiny_wide(
        name="tiny_source",
        requires=(*_TINY_PARTS, "tiny_mllm_words", "tiny_stage1"),
        num_steps=1200,
        learning_rate_decay="linear",
        reference_probability=0.0,
        video_probability=0.0,
        image_pool=20_000,
        image_reference_pool=0,
        video_pool=0,
        video_reference_pool=0,
        save_every=600,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "stage1": stage1,
    "stage2": stage2,
    "stage3": stage3,
    "tiny_vae_image": tiny_vae_image,
    "tiny_vae": tiny_vae,
    "tiny_mllm": tiny_mllm,
    "tiny_dit": tiny_dit,
    "tiny_stage1": tiny_stage1,
    "tiny_stage2": tiny_stage2,
    "tiny_stage2_flat": tiny_stage2_flat,
    "tiny_words": tiny_words,
    "tiny_stage2_mixed": tiny_stage2_mixed,
    "tiny_focus": tiny_focus,
    "tiny_wide": tiny_wide,
    "tiny_tone": tiny_tone,
    "tiny_weak": tiny_weak,
    "tiny_mllm_words": tiny_mllm_words,
    "tiny_stage3": tiny_stage3,
    "tiny_reference": tiny_reference,
    "tiny_decoder": tiny_decoder,
    "tiny_finish": tiny_finish,
    "tiny_source": tiny_source,
}
