"""Grids of frames as PNG: what the model makes while it trains. Frames are uint8."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

GAP = 4  # pixels between cells


def save_grid(path: Path | None, rows: Sequence[Sequence[np.ndarray]], scale: int = 2) -> None:
    """`rows` of (H, W, 3) uint8 cells of one size a row; every cell enlarged `scale` times without smoothing.

    path: None writes nothing.
    """
    if path is None:
        return
    heights = [row[0].shape[0] + GAP for row in rows]
    width = max(len(row) * (row[0].shape[1] + GAP) for row in rows)
    canvas = np.full((sum(heights), width, 3), 255, np.uint8)
    top = 0
    for row, step in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            height, side = cell.shape[:2]
            left = column * (side + GAP)
            canvas[top : top + height, left : left + side] = cell
        top += step
    image = Image.fromarray(canvas)
    image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST).save(path)
