"""What the encoder is given: source frames, instruction and references -> EncoderInputs (paper 3.1, 3.2).

Token ids, frames, patches, positions and mask are computed here and passed explicitly, so that any transformers from
4.57 on gives the same numbers. Needs torch and tokenizers only.
Data flow: prepare_inputs -> encoder.
Legend: B batch, L tokens, S patches, P values a patch, grid (t, h, w) in patches.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..config import InstructXConfig
from ..errors import InputError
from .positions import Grid, temporal_step
from .prompt import build_prompt, encode_instruction
from .vision import check_frames, prepare_pictures


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


def as_grids(grid: Grid | tuple[Grid, ...] | None) -> tuple[Grid, ...]:
    if grid is None:
        return ()
    return (grid,) if isinstance(grid[0], int) else tuple(grid)  # type: ignore[return-value]


def _stack_pictures(clips: list[Tensor], config: InstructXConfig, kind: str) -> tuple[Tensor, Grid]:
    pairs = [prepare_pictures(clip, config, kind) for clip in clips]
    grids = {grid for _, grid in pairs}
    if len(grids) != 1:
        raise InputError(f"the {kind}s of one batch have grids {sorted(grids)}; batch equal sizes and lengths together")
    return torch.stack([patches for patches, _ in pairs]), grids.pop()


def _stack_references(references: list[list[Tensor]], config: InstructXConfig) -> tuple[Tensor, tuple[Grid, ...]]:
    counts = {len(sample) for sample in references}
    if len(counts) != 1 or 0 in counts:
        raise InputError(f"samples of one batch have {sorted(counts)} references; give all the same number, at least 1")
    slots = [
        _stack_pictures([image[None] if image.ndim == 3 else image for image in slot], config, "reference")
        for slot in zip(*references, strict=True)
    ]
    return torch.cat([patches for patches, _ in slots], dim=1), tuple(grid for _, grid in slots)


def _modality(wanted: str | None, num_frames: int) -> str:
    """Raises InputError for an unknown one, or when several frames are to be one image."""
    if wanted not in (None, "image", "video"):
        raise InputError(f"modality is {wanted!r}; use image or video")
    if wanted == "image" and num_frames != 1:
        raise InputError(f"the source has {num_frames} frames, an image edit takes one; use auto or video for a clip")
    return wanted or ("image" if num_frames == 1 else "video")


def prepare_inputs(
    tokenizer: Any,
    config: InstructXConfig,
    instructions: list[str],
    frames: list[Tensor] | None = None,
    references: list[list[Tensor]] | None = None,
    fps: float = 16.0,
    *,
    num_frames: int | None = None,
    grid: Grid | None = None,
    reference_grid: Grid | tuple[Grid, ...] | None = None,
    modality: str | None = None,
    allow_empty: bool = False,
    text_length: int | None = None,
) -> EncoderInputs:
    """Everything the encoder needs for B samples.

    instructions: B strings. frames: B uint8 (F, H, W, 3) tensors, the whole clips at `fps` Hz; F == 1 is an image.
    references: B lists of uint8 (H, W, 3). With precomputed vision features leave frames (and references) out and give
    num_frames (of the whole clip, 1 = image), `grid` and `reference_grid` instead (geometry.mllm_grid).
    modality: image or video; by default what frames and config say. One picture may be forced to be a one-frame clip.
    allow_empty: "" is the unconditional branch of guidance. text_length: pad instructions to a fixed length.
    Raises InputError on empty or overlong text, unequal samples, wrong shapes or dtypes.
    """
    if isinstance(instructions, str) or not instructions:
        raise InputError(f"instructions is {instructions!r}; give a non-empty list of strings")
    if modality is None and config.instruction.reference_as_video and (references or reference_grid):
        modality = "video"
    patches_BSP = reference_patches_BSP = None
    if frames is not None:
        for clip in frames:
            check_frames(clip, "source")
        lengths = {len(clip) for clip in frames}
        if len(frames) != len(instructions) or len(lengths) != 1:
            raise InputError(
                f"{len(frames)} clips of {sorted(lengths)} frames for {len(instructions)} instructions; "
                "give one clip an instruction, all of one length"
            )
        num_frames = lengths.pop()
        modality = _modality(modality, num_frames)
        patches_BSP, grid = _stack_pictures(frames, config, modality)
    if grid is None or num_frames is None:
        raise InputError("no frames given; give `frames`, or `num_frames` and `grid` with precomputed vision features")
    if references is not None:
        if len(references) != len(instructions):
            raise InputError(f"{len(references)} reference lists for {len(instructions)} instructions; give one each")
        reference_patches_BSP, reference_grid = _stack_references(references, config)
    return _assemble(
        tokenizer, config, instructions, grid, as_grids(reference_grid),
        modality=_modality(modality, num_frames), step=temporal_step(config, num_frames, fps),
        patches=(patches_BSP, reference_patches_BSP), allow_empty=allow_empty, text_length=text_length,
    )  # fmt: skip


def _assemble(
    tokenizer: Any,
    config: InstructXConfig,
    instructions: list[str],
    grid: Grid,
    reference_grids: tuple[Grid, ...],
    *,
    modality: str,
    step: float,
    patches: tuple[Tensor | None, Tensor | None],
    allow_empty: bool,
    text_length: int | None = None,
) -> EncoderInputs:
    rule = config.instruction
    _check_trained(config, modality, reference_grids)
    suffix = rule.reference_suffix if reference_grids else ""
    query_set = "reference" if reference_grids and rule.num_reference_queries else modality
    query_count = rule.query_count(modality, bool(reference_grids))
    prompt = build_prompt(
        tokenizer,
        config,
        [encode_instruction(tokenizer, text, suffix, allow_empty) for text in instructions],
        grid,
        reference_grids,
        is_video=modality == "video",
        query_count=query_count,
        step=step,
        text_length=text_length,
    )
    return EncoderInputs(
        input_ids_BL=prompt.input_ids_BL,
        attention_mask_BL=prompt.attention_mask_BL,
        position_ids_3BL=prompt.position_ids_3BL,
        patches_BSP=patches[0],
        grid=grid,
        reference_patches_BSP=patches[1],
        reference_grid=reference_grids or None,
        vision_start=prompt.vision_start,
        reference_starts=prompt.reference_starts,
        query_start=prompt.query_start,
        query_count=query_count,
        query_set=query_set,
        modality=modality,
        temporal_step=step,
        padded=prompt.padded,
    )


def _check_trained(config: InstructXConfig, modality: str, reference_grids: tuple[Grid, ...]) -> None:
    """Raises InputError for what the checkpoint was not trained on."""
    if reference_grids and config.denoiser.reference_embedder == "none":
        raise InputError(f"{config.name} takes no reference; leave it out or use a checkpoint trained with references")
    if not config.instruction.query_count(modality, bool(reference_grids)):
        raise InputError(f"{config.name} has no queries for {modality} edits; use a checkpoint trained on {modality}s")


def drop_instruction(tokenizer: Any, config: InstructXConfig, inputs: EncoderInputs) -> EncoderInputs:
    """The unconditional branch of guidance: the same pictures, no instruction. Guidance itself is not in the paper."""
    device = inputs.input_ids_BL.device
    batch = inputs.input_ids_BL.shape[0]
    return _assemble(
        tokenizer, config, [""] * batch, inputs.grid, inputs.reference_grid or (), modality=inputs.modality,
        step=inputs.temporal_step, patches=(inputs.patches_BSP, inputs.reference_patches_BSP), allow_empty=True,
    ).to(device)  # fmt: skip
