"""Training runs as functions that return a frozen Recipe; `instructx train NAME` runs one.

Paper (3.3, 4.1): stage 1 aligns queries, LoRA and connector on images with the DiT frozen and without source latents;
stage 2 adds the source (and reference) latents and trains the whole DiT on images and videos; stage 3 fine-tunes on
little, good data. lr 1e-5, global batch 128 images / 32 videos, 20k + 20k + 5k steps, p(video) = 0.6.
Everything else is `not in paper` and says so at the field.

The tiny model has no pretrained parts to start from, so `tiny_vae`, `tiny_mllm` and `tiny_dit` train its counterparts
of the Wan VAE, of Qwen2.5-VL and of the Wan DiT first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from .objective import Density, Weighting

# Groups of trainable tensors. A stage names groups; trainable.py says which tensors a group holds.
ALIGNMENT = ("queries.image", "lora", "connector")
EMBEDDERS = ("source_embedder", "reference_embedder")
EVERYTHING = ("queries.image", "queries.video", "lora", "connector", "denoiser", *EMBEDDERS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One training run. Batches are global: over all processes and accumulation steps."""

    name: str
    preset: str  # config.PRESETS
    job: Literal["vae", "mllm", "text_to_video", "edit"]
    requires: tuple[str, ...] = ()  # recipes whose final weights this one starts from, in this order
    train: tuple[str, ...] = ()
    num_steps: int
    learning_rate: float = 1e-5
    # not in paper; linear: to 0 over the run, cooldown: to 0 over its last quarter
    learning_rate_decay: Literal["constant", "linear", "cooldown"] = "constant"
    warmup_steps: int = 500  # not in paper
    betas: tuple[float, float] = (0.9, 0.95)  # not in paper
    weight_decay: float = 0.01  # not in paper
    clip_norm: float = 1.0  # not in paper
    precision: Literal["fp32", "bf16"] = "bf16"  # of the forward pass; weights, gradients and averages are fp32
    muon_scale: float = 0.0  # convolutions train with Muon at this multiple of learning_rate (tiny VAE only)
    crop: int = 0  # VAE: side in pixels of the crops of all but the last sixth of the steps; 0: whole frames
    ema_decay: float = 0.0  # 0: off; not in paper
    image_batch: int = 128
    video_batch: int = 32
    micro_image_batch: int = 128
    micro_video_batch: int = 32
    video_probability: float = 0.0
    reference_probability: float = 0.0  # share of steps with a reference, within a modality; not in paper
    source_latents: bool = True  # the source enters the DiT (paper: from stage 2 on)
    source_embedder: Literal["preset", "tied", "own"] = "preset"  # overrides the preset: the tied/own comparison
    instruction_dropout: float = 0.1  # instruction dropped, visual tokens kept, for guidance; not in paper
    instruction_share: float = 0.0  # MLLM: share of the questions that are instructions (job_mllm.py)
    density: Density = "uniform"  # not in paper
    shift: float = 5.0  # not in paper
    weighting: Weighting = "bell"  # not in paper
    image_pool: int = 0  # samples of the procedural world in the cache, per bucket
    video_pool: int = 0
    image_reference_pool: int = 0
    video_reference_pool: int = 0
    # edits without a reference are of these kinds only, of one that is named twice twice as many; (): shapes.TASKS
    tasks: tuple[str, ...] = ()
    pool_start: int = 0  # first sample number of the pools, so that two stages can see different data
    seed: int = 0
    save_every: int = 500
    validate_every: int = 500
    sample_every: int = 1000

    def as_json(self) -> dict[str, Any]:
        """JSON-ready dict; lists instead of tuples so that it compares equal after a round trip."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


def stage1(preset: str = "paper_14b", **overrides: Any) -> Recipe:
    """Feature alignment: image queries, LoRA and connector learn to speak to a frozen DiT."""
    values: dict[str, Any] = {
        "name": "stage1",
        "preset": preset,
        "job": "edit",
        "train": ALIGNMENT,
        "num_steps": 20_000,
        "source_latents": False,
    }
    return Recipe(**values | overrides)


def stage2(preset: str = "paper_14b", **overrides: Any) -> Recipe:
    """Full data: the entire DiT joins, source and reference latents enter, images and videos are mixed."""
    values: dict[str, Any] = {
        "name": "stage2",
        "preset": preset,
        "job": "edit",
        "requires": ("stage1",),
        "train": EVERYTHING,
        "num_steps": 20_000,
        "video_probability": 0.6,
        "reference_probability": 0.2,
        "ema_decay": 0.9999,
    }
    return Recipe(**values | overrides)


def stage3(preset: str = "paper_14b", **overrides: Any) -> Recipe:
    """Quality fine-tuning on a small set."""
    return stage2(preset, **{"name": "stage3", "requires": ("stage2",), "num_steps": 5_000} | overrides)


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


def tiny_source() -> Recipe:
    """Compares how the source enters, on images: `--source-embedder tied` (the paper's words) and `own`."""
    return tiny_wide(
        name="tiny_source",
        requires=(*_TINY_PARTS, "tiny_mllm_words", "tiny_stage1"),
        num_steps=2000,
        learning_rate_decay="linear",
        reference_probability=0.0,
        video_probability=0.0,
        image_reference_pool=0,
        video_pool=0,
        video_reference_pool=0,
        save_every=1000,
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
    "tiny_source": tiny_source,
}
