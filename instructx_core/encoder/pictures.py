"""What the MLLM sees of a batch: the source's frames and the references -> Pictures (paper 3.1).

Before inputs.py, which puts them into the prompt. Training computes the vision features once and gives grids only.
Legend: B batch, F pixel frames, S patches, P values a patch, grid (t, h, w) in patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import InstructXConfig
from ..errors import InputError
from .positions import Grid, temporal_step
from .vision import check_frames, prepare_pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Source and references of B samples, all of one layout.

    reference_grids: one a reference; reference_patches_BSP their patches one after the other. Patches are None where
    the encoder is given vision features instead.
    """

    modality: str  # image or video
    temporal_step: float  # positions between temporal grid cells
    grid: Grid
    patches_BSP: Tensor | None = None
    reference_grids: tuple[Grid, ...] = ()
    reference_patches_BSP: Tensor | None = None


def patched_pictures(
    config: InstructXConfig,
    frames: Sequence[Tensor],
    references: Sequence[Sequence[Tensor]] | None = None,
    fps: float | None = None,
    modality: str | None = None,
) -> Pictures:
    """Pictures of frames: B uint8 (F, H, W, 3), the whole clips at `fps` Hz; references: B lists of uint8 (H, W, 3).

    fps: by default the model's usual. modality: image or video; by default what frames and config say. One picture may
    be forced to be a one-frame clip. Raises InputError for unequal samples, wrong shapes or dtypes.
    """
    for clip in frames:
        check_frames(clip, "source")
    lengths = {len(clip) for clip in frames}
    if len(lengths) != 1:
        raise InputError(f"clips of {sorted(lengths)} frames in one batch; batch equal lengths together")
    num_frames = lengths.pop()
    modality = _modality(config, modality, num_frames, bool(references))
    patches_BSP, grid = _stack(frames, config, modality)
    reference_patches_BSP, reference_grids = (None, ()) if references is None else _stack_slots(references, config)
    return Pictures(
        modality=modality,
        temporal_step=temporal_step(config, num_frames, fps),
        grid=grid,
        patches_BSP=patches_BSP,
        reference_grids=reference_grids,
        reference_patches_BSP=reference_patches_BSP,
    )


def pictures_of_grids(
    config: InstructXConfig,
    num_frames: int,
    grid: Grid,
    reference_grids: tuple[Grid, ...] = (),
    fps: float | None = None,
) -> Pictures:
    """Pictures whose vision features were computed before. num_frames: of the whole clip, 1 = image."""
    modality = _modality(config, None, num_frames, bool(reference_grids))
    step = temporal_step(config, num_frames, fps)
    return Pictures(modality=modality, temporal_step=step, grid=grid, reference_grids=reference_grids)


def _modality(config: InstructXConfig, wanted: str | None, num_frames: int, has_reference: bool) -> str:
    """Raises InputError for an unknown one, or when several frames are to be one image."""
    if wanted not in (None, "image", "video"):
        raise InputError(f"modality is {wanted!r}; use image or video")
    if wanted is None and config.instruction.reference_as_video and has_reference:
        return "video"
    if wanted == "image" and num_frames != 1:
        raise InputError(f"the source has {num_frames} frames, an image edit takes one; use auto or video for a clip")
    return wanted or ("image" if num_frames == 1 else "video")


def _stack(clips: Sequence[Tensor], config: InstructXConfig, kind: str) -> tuple[Tensor, Grid]:
    pairs = [prepare_pictures(clip, config, kind) for clip in clips]
    grids = {grid for _, grid in pairs}
    if len(grids) != 1:
        name = "reference" if kind == "reference" else "source"
        sizes = sorted({f"{clip.shape[2]}x{clip.shape[1]}" for clip in clips})
        raise InputError(
            f"the {name}s of one batch differ in shape ({', '.join(sizes)}), and the encoder reads them together; "
            "scale or pad them to one size, or edit one at a time"
        )
    return torch.stack([patches for patches, _ in pairs]), grids.pop()


def _stack_slots(references: Sequence[Sequence[Tensor]], config: InstructXConfig) -> tuple[Tensor, tuple[Grid, ...]]:
    """The first references of all samples together, then the second ones: slots may differ in size, samples not."""
    counts = {len(sample) for sample in references}
    if len(counts) != 1 or 0 in counts:
        raise InputError(f"samples of one batch have {sorted(counts)} references; give all the same number, at least 1")
    slots = [
        _stack([image[None] if image.ndim == 3 else image for image in slot], config, "reference")
        for slot in zip(*references, strict=True)
    ]
    return torch.cat([patches for patches, _ in slots], dim=1), tuple(grid for _, grid in slots)
