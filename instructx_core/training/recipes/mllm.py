"""The recipe of an MLLM: describe scenes, answer questions about them, read instructions (jobs/mllm.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class MllmRecipe(Recipe):
    """Not in the paper, whose MLLM is Qwen2.5-VL. Pools are samples with their questions, half of them instructions."""

    job: ClassVar[str] = "mllm"

    image_pool: int = 0
    video_pool: int = 0
