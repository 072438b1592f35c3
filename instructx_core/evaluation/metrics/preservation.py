"""How well an edit keeps what it should not touch: PSNR, SSIM and, with its weights, LPIPS outside of the edit.

Place: source, output, mask -> preservation -> measure. The mask is white where the edit is; without one there is no
outside, and nothing is measured. SSIM counts the pixels whose window does not touch the edit. LPIPS sees the output
with the source pasted into the edit, so that only what lies outside can differ.
Shapes: frames_FHWC uint8, mask_FHW bool with F = 1 for one that holds all along.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ...errors import InputError

WINDOW = 7  # of SSIM
ROUNDING = 1.0 / 12.0  # mean squared error of rounding to whole levels: no output is told to be nearer than that
PSNR_MOST = 10.0 * math.log10(255.0**2 / ROUNDING)  # 58.92 dB
Distance = Callable[[np.ndarray, np.ndarray], float]


def outside_of(mask_FHW: np.ndarray, frames: int) -> np.ndarray:
    return np.broadcast_to(~mask_FHW, (frames, *mask_FHW.shape[1:]))


def outside_psnr(source_FHWC: np.ndarray, output_FHWC: np.ndarray, mask_FHW: np.ndarray) -> float | None:
    """dB over all outside pixels of all frames, at most PSNR_MOST; None where the edit is everywhere."""
    outside_FHW = outside_of(mask_FHW, len(source_FHWC))
    if not outside_FHW.any():
        return None
    error = (source_FHWC.astype(np.float64) - output_FHWC) ** 2
    return 10.0 * math.log10(255.0**2 / max(float(error[outside_FHW].mean()), ROUNDING))


def outside_ssim(source_FHWC: np.ndarray, output_FHWC: np.ndarray, mask_FHW: np.ndarray) -> float | None:
    """Mean over the outside pixels whose window is outside as well; None where there are none."""
    try:
        from scipy.ndimage import minimum_filter
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise InputError(f"SSIM needs {error.name}; pip install 'instructx[eval]'") from None
    outside_FHW = outside_of(mask_FHW, len(source_FHWC))
    if min(source_FHWC.shape[1:3]) < WINDOW:
        return None
    total, count = 0.0, 0
    for source_HWC, output_HWC, outside_HW in zip(source_FHWC, output_FHWC, outside_FHW, strict=True):
        clear_HW = minimum_filter(outside_HW, size=WINDOW, mode="nearest")
        if clear_HW.any():
            map_HWC = structural_similarity(
                source_HWC, output_HWC, win_size=WINDOW, channel_axis=-1, data_range=255, full=True
            )[1]
            values = map_HWC[clear_HW]
            total, count = total + float(values.sum()), count + values.size
    return total / count if count else None


def outside_distance(
    distance: Distance, source_FHWC: np.ndarray, output_FHWC: np.ndarray, mask_FHW: np.ndarray
) -> float | None:
    """Mean over frames of a distance of two pictures, of source and of output with the source inside the edit."""
    outside_FHW = outside_of(mask_FHW, len(source_FHWC))
    if not outside_FHW.any():
        return None
    pasted_FHWC = np.where(outside_FHW[..., None], output_FHWC, source_FHWC)
    return float(np.mean([distance(a, b) for a, b in zip(source_FHWC, pasted_FHWC, strict=True)]))
