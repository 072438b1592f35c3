"""M-RoPE positions (t, h, w) of the prompt, computed by us because transformers releases disagree (paper 3.1, 3.2).

Rules of Qwen2.5-VL: text counts 1-D, the three axes equal; a vision block starting at s has t = s + its time, h = s +
row, w = s + column of the merged grid; text after it starts at max(all three) + 1. Only the time step differs between
profiles (`temporal_step`). Releases differ: 4.57 truncates the seconds of a grid cell to whole ones, 5.x continues at
max(h, w) + 1.
Legend: B batch, L tokens, position_3BL long tensor, grid (t, h, w) in patches.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..config import InstructXConfig
from ..errors import InputError
from ..geometry import sample_frame_indices

Grid = tuple[int, int, int]
# A part of the sequence: (number of text tokens, None) or (0, merged grid).
Segment = tuple[int, Grid | None]


def temporal_step(config: InstructXConfig, num_frames: int, fps: float | None = None) -> float:
    """Positions between neighbouring temporal grid cells for a clip of num_frames at fps, before sampling.

    fps: Hz; None: the model's usual rate.
    'fixed' (Kiwi-Edit): one second a cell whatever the fps, so tokens_per_second = 2.
    'seconds': temporal_patch_size / sampled_fps * tokens_per_second, sampled_fps = shown / num_frames * fps as in
    qwen_vl_utils. Raises InputError for a non-positive fps.
    """
    vision, rule = config.mllm.vision, config.instruction
    if rule.temporal_position_step == "fixed":
        return float(vision.tokens_per_second)
    fps = config.sampling.fps if fps is None else fps
    if not fps > 0:
        raise InputError(f"fps is {fps}; it must be positive: pass the clip's frame rate in Hz")
    shown = len(sample_frame_indices(num_frames, rule.mllm_frames, rule.frame_rule))
    return vision.temporal_patch_size * num_frames / (shown * fps) * vision.tokens_per_second


def vision_positions(grid: Grid, start: int, step: float) -> Tensor:
    """(3, t*h*w) positions of a vision block; grid is the MERGED grid, in the order t, row, column."""
    t, h, w = grid
    # 1e-6: i * step may land just under the whole number it means
    t_index = (torch.arange(t, dtype=torch.float64) * step + 1e-6).floor().long()
    axes = torch.meshgrid(t_index, torch.arange(h), torch.arange(w), indexing="ij")
    return torch.stack([axis.flatten() for axis in axes]) + start


@lru_cache(maxsize=256)
def sequence_positions(segments: tuple[Segment, ...], step: float) -> Tensor:
    """(3, L) positions of text and vision parts in order; `step` applies to every vision part (images have t = 1).

    Cached by layout: callers must not write into the result.
    """
    with torch.device("cpu"):  # a caller under torch.device("meta") must not leave meta tensors in the cache
        parts: list[Tensor] = []
        start = 0
        for length, grid in segments:
            if grid is None:
                part = torch.arange(start, start + length).expand(3, -1)
            else:
                part = vision_positions(grid, start, step)
            if part.shape[1]:
                start = int(part.max()) + 1
            parts.append(part)
        return torch.cat(parts, dim=1)
