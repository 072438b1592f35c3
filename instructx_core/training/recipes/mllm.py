"""The recipe of an MLLM: describe scenes and answer questions about them (jobs/mllm.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from .base import Recipe


@dataclass(frozen=True, kw_only=True, slots=True)
class MllmRecipe(Recipe):
    """Not in the paper, whose MLLM is Qwen2.5-VL."""

    job: ClassVar[str] = "mllm"

    part: Literal["whole", "language_model"] = "whole"  # language_model: vision features in the cache stay valid
    instruction_share: float = 0.0  # share of the questions that are instructions, answered by the target's caption
