"""The values of the sampling inputs, and the edit that they are for: one object each, for Sampler and Long Video.

schema.py has the inputs themselves; sampling.py runs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SamplingSettings:
    """The values of `sampling_inputs`. denoise: part of the schedule that is run, 0.01 to 1."""

    seed: int
    steps: int
    cfg: float
    shift: float
    sampler_name: str
    scheduler: str
    denoise: float = 1.0


@dataclass(frozen=True)
class SamplerInputs:
    """The first four outputs of Source and Reference: they belong together."""

    model: Any
    positive: Any
    negative: Any
    latent: dict[str, Any]
