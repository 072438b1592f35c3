"""Grids of frames as PNG: what the model makes while it trains. uint8 frames of equal size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

GAP = 4  # pixels between cells


def to_pixels(frames_FHWC: np.ndarray) -> Tensor:
    """uint8 (F,H,W,3) -> [-1,1] (3,F,H,W)."""
    return torch.from_numpy(frames_FHWC).permute(3, 0, 1, 2).float() / 127.5 - 1


def to_uint8(pixels: Tensor) -> np.ndarray:
    """[-1,1] -> uint8, rounded; any shape."""
    return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().byte().cpu().numpy()


def save_grid(path: Path, rows: Sequence[Sequence[np.ndarray]], scale: int = 2) -> None:
    """`rows` of (H, W, 3) uint8 cells; every cell enlarged `scale` times without smoothing."""
    height, width = rows[0][0].shape[:2]
    columns = max(len(row) for row in rows)
    canvas = np.full((len(rows) * (height + GAP), columns * (width + GAP), 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            top, left = r * (height + GAP), c * (width + GAP)
            canvas[top : top + height, left : left + width] = cell
    image = Image.fromarray(canvas)
    image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST).save(path)
