"""The recipe of a DiT before it edits: generate scenes from captions (jobs/text_to_video.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .flow import FlowRecipe


@dataclass(frozen=True, kw_only=True, slots=True)
class TextToVideoRecipe(FlowRecipe):
    """Not in the paper, whose DiT is Wan's."""

    job: ClassVar[str] = "text_to_video"
