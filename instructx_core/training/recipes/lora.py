"""The recipe of an artist's own edit: LoRA of a model that is there, from a few dozen pairs (jobs/lora.py).

Not in the paper. A LoRA that sees one instruction alone learns to do its edit whatever is asked. So a share of every
batch is of the same pictures under other instructions, for which the model is held to what it says without the LoRA.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .edit import EditRecipe

# Of the paper's kinds of edit; what a model says of them is kept. An artist gives others with --keep.
KEPT = (
    "remove the person in the background",
    "remove the largest object",
    "add a red balloon",
    "add a small dog next to the main subject",
    "replace the main object with a wooden chair",
    "make the main object blue",
    "change the colour of the clothes to green",
    "replace the background with a beach",
    "make the background plain white",
    "turn it into a watercolour painting",
    "turn it into a pencil drawing",
    "make it black and white",
    "make everything brighter",
    "make it look like night",
    "make the colours warmer",
    "remove the text and make the sky pink",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraRecipe(EditRecipe):
    """An edit taught by pairs. base, pairs: digests of the model's files and of the pairs, so that a run goes on with
    nothing else."""

    job: ClassVar[str] = "lora"

    train: tuple[str, ...] = ()
    base: str
    pairs: str
    rank: int = 32
    alpha: float = 32.0
    mllm_rank: int = 0  # LoRA of the language model too; 0: none, and the contexts are encoded once
    keep: tuple[str, ...] = KEPT
    keep_share: float = 0.5  # of a batch
    keep_each: int = 6  # instructions of `keep` for each picture
