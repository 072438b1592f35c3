"""What the encoder is given: source frames, instruction and references -> EncoderInputs (paper 3.1, 3.2).

Token ids, frames, patches, positions and mask are computed here and passed explicitly, so that any transformers from
4.57 on gives the same numbers. Needs torch and tokenizers only.
Data flow: pictures.py -> prepare_inputs -> forward.py.
Legend: B batch, L tokens, S patches, P values a patch, grid (t, h, w) in patches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..config import InstructXConfig
from ..errors import InputError
from .pictures import Pictures, patched_pictures
from .positions import Grid
from .prompt import build_prompt, encode_instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderInputs:
    """One batch for InstructXEncoder. All samples share grids, references and the layout of the sequence.

    Patches are None when vision features are given to the encoder instead. reference_grid holds one grid a reference;
    reference_patches_BSP their patches one after the other. *_start are token indices; temporal_step is kept so that
    drop_instruction can rebuild the positions.
    """

    input_ids_BL: Tensor
    attention_mask_BL: Tensor  # bool, False at pads
    position_ids_3BL: Tensor
    patches_BSP: Tensor | None
    grid: Grid
    reference_patches_BSP: Tensor | None
    reference_grid: tuple[Grid, ...] | None
    vision_start: int
    reference_starts: tuple[int, ...]
    query_start: int
    query_count: int
    query_set: str  # image, video or reference
    modality: str  # image or video
    temporal_step: float
    padded: bool

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> EncoderInputs:
        """Copy on `device`; dtype applies to the patches only."""
        changed: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = value.to(device=device, dtype=dtype if value.is_floating_point() else None)
        return dataclasses.replace(self, **changed)


def prepare_inputs(
    tokenizer: Any,
    config: InstructXConfig,
    instructions: Sequence[str],
    frames: Sequence[Tensor],
    references: Sequence[Sequence[Tensor]] | None = None,
    fps: float | None = None,
    *,
    modality: str | None = None,
    allow_empty: bool = False,
) -> EncoderInputs:
    """Everything the encoder needs for B samples: B instructions, and frames, references, fps as patched_pictures.

    allow_empty: "" is the unconditional branch of guidance. Raises InputError on empty or overlong text, unequal
    samples, wrong shapes or dtypes.
    """
    _check_list(instructions)
    if len(frames) != len(instructions):
        raise InputError(f"{len(frames)} clips for {len(instructions)} instructions; give one clip an instruction")
    if references is not None and len(references) != len(instructions):
        raise InputError(f"{len(references)} reference lists for {len(instructions)} instructions; give one each")
    pictures = patched_pictures(config, frames, references, fps, modality)
    return inputs_of_pictures(tokenizer, config, instructions, pictures, allow_empty=allow_empty)


def inputs_of_pictures(
    tokenizer: Any,
    config: InstructXConfig,
    instructions: Sequence[str],
    pictures: Pictures,
    *,
    allow_empty: bool = False,
    text_length: int | None = None,
) -> EncoderInputs:
    """B instructions around pictures that are prepared already. text_length: pad instructions to a fixed length."""
    _check_list(instructions)
    rule, has_reference = config.instruction, bool(pictures.reference_grids)
    _check_trained(config, pictures)
    suffix = rule.reference_suffix if has_reference else ""
    query_count = config.appended_queries(pictures.modality, has_reference)
    texts = [encode_instruction(tokenizer, text, suffix, allow_empty) for text in instructions]
    prompt = build_prompt(tokenizer, config, texts, pictures, query_count, text_length=text_length)
    return EncoderInputs(
        input_ids_BL=prompt.input_ids_BL,
        attention_mask_BL=prompt.attention_mask_BL,
        position_ids_3BL=prompt.position_ids_3BL,
        patches_BSP=pictures.patches_BSP,
        grid=pictures.grid,
        reference_patches_BSP=pictures.reference_patches_BSP,
        reference_grid=pictures.reference_grids or None,
        vision_start=prompt.vision_start,
        reference_starts=prompt.reference_starts,
        query_start=prompt.query_start,
        query_count=query_count,
        query_set=query_set_of(config, pictures.modality, has_reference),
        modality=pictures.modality,
        temporal_step=pictures.temporal_step,
        padded=prompt.padded,
    )


def query_set_of(config: InstructXConfig, modality: str, has_reference: bool) -> str:
    """Which set of queries an edit of that modality appends."""
    if has_reference and config.instruction.num_reference_queries:
        return "reference"
    return "image" if config.design.shared_queries else modality


def drop_instruction(tokenizer: Any, config: InstructXConfig, inputs: EncoderInputs) -> EncoderInputs:
    """The unconditional branch of guidance: the same pictures, no instruction. Guidance itself is not in the paper."""
    pictures = Pictures(
        modality=inputs.modality,
        temporal_step=inputs.temporal_step,
        grid=inputs.grid,
        patches_BSP=inputs.patches_BSP,
        reference_grids=inputs.reference_grid or (),
        reference_patches_BSP=inputs.reference_patches_BSP,
    )
    batch, device = inputs.input_ids_BL.shape[0], inputs.input_ids_BL.device
    return inputs_of_pictures(tokenizer, config, [""] * batch, pictures, allow_empty=True).to(device)


def _check_list(instructions: Sequence[str]) -> None:
    if isinstance(instructions, str) or not instructions:
        raise InputError(f"instructions is {instructions!r}; give a non-empty list of strings")


def _check_trained(config: InstructXConfig, pictures: Pictures) -> None:
    """Raises InputError for what the checkpoint was not trained on."""
    modality, has_reference = pictures.modality, bool(pictures.reference_grids)
    if has_reference and config.denoiser.reference_embedder == "none":
        raise InputError(f"{config.name} takes no reference; leave it out or use a checkpoint trained with references")
    if not config.instruction.query_count(modality, has_reference):
        raise InputError(f"{config.name} has no queries for {modality} edits; use a checkpoint trained on {modality}s")
