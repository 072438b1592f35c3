"""What every recipe has: what it starts from, its data, how long it runs, and how it steps.

Fields of one kind of job are in the subclasses beside this file; a job reads its own recipe and no other. Values that
the paper doesn't give are marked `not in paper`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ...config import InstructXConfig

FROM_SHIPPED = "shipped"  # in `requires`: the model in this package, in place of runs (`--from-shipped`)
FROM_BASE = "base"  # in `requires`: the public weights of Wan and Qwen2.5-VL (`--base`)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One training run. Batches are global: over all processes and accumulation steps."""

    job: ClassVar[str]  # kind of job, in the recipe's JSON

    name: str
    description: str  # what it trains, for the model card and `instructx train --help`
    preset: str  # config.PRESETS
    data: str | None = None  # spec of a source, NAME or NAME:PATH (data/sources.py); None: `--data` must give it
    # recipes whose final weights this one starts from, in this order; FROM_SHIPPED; FROM_BASE, before any recipe
    requires: tuple[str, ...] = ()
    num_steps: int
    learning_rate: float = 1e-5
    # not in paper; linear: to 0 over the run, cooldown: to 0 over its last quarter
    learning_rate_decay: Literal["constant", "linear", "cooldown"] = "constant"
    warmup_steps: int = 500  # not in paper
    betas: tuple[float, float] = (0.9, 0.95)  # not in paper
    weight_decay: float = 0.01  # not in paper
    clip_norm: float = 1.0  # not in paper
    # Muon trains hidden weights (optimizers.py) at this multiple of learning_rate; 0: AdamW, as in the paper
    muon_scale: float = 0.0
    # of the forward pass; weights, gradients and averages are fp32. auto: what the device computes in; native: bf16 on
    # a CPU too, if that has products of it (precision.py)
    precision: Literal["auto", "native", "fp32", "bf16"] = "auto"
    ema_decay: float = 0.0  # 0: off; not in paper
    image_batch: int = 128
    video_batch: int = 32
    micro_image_batch: int = 128
    micro_video_batch: int = 32
    video_probability: float = 0.0  # share of the steps on clips
    image_validation: int = 64  # samples of the validation split, those with a reference apart
    video_validation: int = 16
    seed: int = 0
    save_every: int = 500
    validate_every: int = 500
    sample_every: int = 1000
    patience: int = 0  # validations without a better one that end a run, with its best weights; 0: it runs to its end

    def model_config(self, config: InstructXConfig) -> InstructXConfig:
        """The model that it trains: the preset's, with the recipe's own choices."""
        return config

    def trained_groups(self) -> tuple[str, ...]:
        """Groups of tensors of a whole model that train (trainable.py); (): one part of it trains alone."""
        return ()

    def takes_source(self) -> bool:
        """Whether its DiT is given the source."""
        return False

    def as_json(self) -> dict[str, Any]:
        """JSON-ready dict; lists instead of tuples so that it compares equal after a round trip."""
        fields = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}
        return {"job": self.job, **fields}
