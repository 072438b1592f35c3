"""The recipe of an edit stage (paper 3.3): which groups train, on which edits, with which latents (jobs/edit.py)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

from ...config import EMBEDDERS, InstructXConfig
from .flow import FlowRecipe

# Groups of trainable tensors. A stage names groups; trainable.py says which tensors a group holds.
ALIGNMENT = ("queries.image", "lora", "connector")
EVERYTHING = ("queries.image", "queries.video", "lora", "connector", "denoiser", *EMBEDDERS)


@dataclass(frozen=True, kw_only=True, slots=True)
class EditRecipe(FlowRecipe):
    """A stage of the paper, or a part of one."""

    job: ClassVar[str] = "edit"

    train: tuple[str, ...]
    reference_probability: float = 0.0  # share of steps with a reference, within a modality; not in paper
    image_reference_pool: int = 0
    video_reference_pool: int = 0
    image_reference_validation: int = 16
    video_reference_validation: int = 8
    source_latents: bool = True  # the source enters the DiT (paper: from stage 2 on)
    source_embedder: Literal["preset", "tied", "own"] = "preset"  # overrides the preset: the tied/own comparison
    instruction_dropout: float = 0.1  # instruction dropped, visual tokens kept, for guidance; not in paper
    # edits without a reference are of these kinds only, of one that is named twice twice as many; (): of all kinds
    tasks: tuple[str, ...] = ()

    def model_config(self, config: InstructXConfig) -> InstructXConfig:
        """With the recipe's choice of the source embedder."""
        if self.source_embedder == "preset":
            return config
        denoiser = dataclasses.replace(config.denoiser, source_embedder=self.source_embedder)
        return dataclasses.replace(config, denoiser=denoiser)

    def trained_groups(self) -> tuple[str, ...]:
        return self.train

    def takes_source(self) -> bool:
        return self.source_latents
