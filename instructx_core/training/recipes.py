"""The paper's training runs as functions that return a frozen Recipe. tiny_recipes.py has those of the tiny model.

Paper (3.3, 4.1): stage 1 aligns queries, LoRA and connector on images with the DiT frozen and without source latents;
stage 2 adds the source (and reference) latents and trains the whole DiT on images and videos; stage 3 fine-tunes on
little, good data. lr 1e-5, global batch 128 images / 32 videos, 20k + 20k + 5k steps, p(video) = 0.6.
Everything else is `not in paper` and says so at the field.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from .objective import Density, Weighting

# Groups of trainable tensors. A stage names groups; trainable.py says which tensors a group holds.
ALIGNMENT = ("queries.image", "lora", "connector")
EMBEDDERS = ("source_embedder", "reference_embedder")
EVERYTHING = ("queries.image", "queries.video", "lora", "connector", "denoiser", *EMBEDDERS)

SHIPPED = "shipped"  # in `requires`: the model in this package, in place of runs (`--from-shipped`)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One training run. Batches are global: over all processes and accumulation steps."""

    name: str
    preset: str  # config.PRESETS
    job: Literal["vae", "mllm", "text_to_video", "edit"]
    requires: tuple[str, ...] = ()  # recipes whose final weights this one starts from, in this order; or SHIPPED
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
    pictures: Literal["scenes", "edits"] = "scenes"  # VAE: what it learns to draw (job_vae.py)
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

    def with_source(self, embedder: Literal["tied", "own"] | None) -> Recipe:
        """The same run with this way for the source into the DiT, in a folder of its own; None: itself."""
        if embedder is None:
            return self
        return dataclasses.replace(self, source_embedder=embedder, name=f"{self.name}_{embedder}")


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
