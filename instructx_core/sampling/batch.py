"""What is edited: B clips of one size and length, an instruction each, and as many references each.

First step of the pipeline: anything that InstructXPipeline takes as source, instruction and reference -> EditBatch. One
edit is a batch of one. Nothing is resized here.
Legend: B batch, F pixel frames, R references, H W pixels, 3 RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..config import InstructXConfig
from ..errors import InputError
from ..geometry import check_size, latent_frames
from ..instruction import check_instruction
from ..pixels import as_frames, as_references, check_clip_sizes

Picture: TypeAlias = Image.Image | np.ndarray | Tensor
Clip: TypeAlias = Picture | Sequence[Picture]


@dataclass(frozen=True, slots=True)
class EditBatch:
    """clips_BFHWC: uint8, or float32 in [0, 1]. references: B times R pictures (H, W, 3) uint8, which differ in size.

    instructions: B of them, or none where contexts are given.
    """

    clips_BFHWC: Tensor
    instructions: tuple[str, ...] = ()
    references: tuple[tuple[Tensor, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.clips_BFHWC)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the clips."""
        return self.clips_BFHWC.shape[2], self.clips_BFHWC.shape[3]

    @property
    def num_references(self) -> int:
        return len(self.references[0]) if self.references else 0


def edit_batch(
    source: Clip | Sequence[Clip],
    instruction: str | Sequence[str] | None = None,
    reference: Clip | Sequence[Clip | None] | None = None,
    contexts: int | None = None,
) -> EditBatch:
    """The batch that a call of the pipeline means: several edits where the instructions are a list, otherwise one.

    contexts: how many are given instead of instructions. Raises InputError for what cannot be read or batched.
    """
    if isinstance(instruction, list | tuple):
        count = len(instruction)
    elif instruction is not None:
        check_instruction(instruction)
        count = None
    else:
        count = contexts if contexts is not None and (contexts > 1 or _dimensions(source) == 5) else None
    if count is None:
        if _dimensions(source) == 5:
            raise InputError(f"a batch of {len(source)} sources needs a list of {len(source)} instructions, not one")  # type: ignore[arg-type]
        pictures = tuple(as_references(reference))
        return EditBatch(as_frames(source)[None], () if instruction is None else (instruction,), (pictures,))
    texts = () if instruction is None else tuple(check_instruction(text) for text in instruction)
    clips = [as_frames(clip) for clip in _each(source, count, "source", "clip or picture")]
    if reference is None:
        references = ((),) * count
    else:
        each = _each(reference, count, "reference", "picture, list of pictures or None")
        references = tuple(tuple(as_references(pictures)) for pictures in each)
    return EditBatch(_stacked(clips), texts, references)


def _dimensions(source: Any) -> int | None:
    return source.ndim if isinstance(source, np.ndarray | Tensor) else None


def _each(given: Any, count: int, name: str, what: str) -> list[Any]:
    """One entry an edit. Raises InputError unless there are `count`, and for no list."""
    listed = isinstance(given, list | tuple) or _dimensions(given) == 5
    if count < 1 or not listed or len(given) != count:
        found = f"{len(given)} entries" if listed else f"one {type(given).__name__}"
        raise InputError(f"{name} has {found} for {count} edits; give a list with one {what} for each, at least one")
    return list(given)


def _stacked(clips: list[Tensor]) -> Tensor:
    kinds = {(tuple(clip.shape), clip.dtype) for clip in clips}
    if len(kinds) != 1:
        found = ", ".join(sorted(f"{s[2]}x{s[1]} {s[0]} frames {str(d)[6:]}" for s, d in kinds))
        raise InputError(f"the sources of one batch differ ({found}); give clips of one size, length and number type")
    return torch.stack(clips)


def check_batch(batch: EditBatch, config: InstructXConfig, height: int | None = None, width: int | None = None) -> None:
    """Raises InputError for a length or size that the model does not take, or not the one asked for (None: any)."""
    latent_frames(batch.clips_BFHWC.shape[1], config.vae.scale_factor_temporal)
    have = batch.size
    wanted = (have[0] if height is None else height, have[1] if width is None else width)
    check_size(*wanted, config)
    if wanted != have:
        raise InputError(
            f"source is {have[1]}x{have[0]} but {wanted[1]}x{wanted[0]} was asked for; scale and crop it first "
            "(instructx_core.geometry.fit_size gives the box)"
        )
    counts = sorted({len(pictures) for pictures in batch.references})
    if len(counts) > 1:
        raise InputError(f"the edits of one batch have {counts} references; give all the same number")
    for pictures in batch.references:
        check_clip_sizes(pictures)
