"""How far one picture lies from another: shift and zoom by least squares, to hundredths of a pixel.

Used by the alignment tests of both front ends. Whole pictures are fitted at once: what a VAE loses averages out.
"""

from __future__ import annotations

import numpy as np
from PIL import Image


def blobs(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 (H, W, 3): coloured blobs some sixth of the picture wide, which a small VAE can keep."""
    cells = np.random.default_rng(seed).integers(20, 236, (7, 7, 3), dtype=np.uint8)
    return np.array(Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC))


def misplacement(want_HWC: np.ndarray, have_HWC: np.ndarray, border: int = 4) -> float:
    """Largest distance in pixels, in the four corners, between where things are and where they should be.

    Fits have(x) = gain * want(x + shift + zoom * x) + offset for each channel, one shift and zoom an axis for all.
    """
    want, have = want_HWC.astype(np.float64), have_HWC.astype(np.float64)
    height, width = want.shape[:2]
    inner = (slice(border, height - border), slice(border, width - border))
    dy, dx = np.gradient(want, axis=(0, 1))
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    columns, target = [], []
    for channel in range(3):
        fit = np.zeros((*want.shape[:2], 4 + 6))
        for index, part in enumerate((dy, dx)):
            fit[..., 2 * index] = part[..., channel]
            fit[..., 2 * index + 1] = part[..., channel] * (y, x)[index]
        fit[..., 4 + 2 * channel] = want[..., channel]
        fit[..., 5 + 2 * channel] = 1.0
        columns.append(fit[inner].reshape(-1, 10))
        target.append(have[..., channel][inner].ravel())
    solved = np.linalg.lstsq(np.concatenate(columns), np.concatenate(target), rcond=None)[0]
    gain = solved[4::2].mean()
    down, across = (abs(solved[i] / gain) + abs(solved[i + 1] / gain) for i in (0, 2))
    return float(np.hypot(down, across))
