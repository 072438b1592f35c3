"""How well an edit keeps what it should not touch: PSNR, SSIM and, with its weights, LPIPS outside of the edit.

Place: source, output, mask -> preservation -> measure. The mask is white where the edit is; without one there is no
outside, and nothing is measured. SSIM counts the pixels whose window does not touch the edit. LPIPS sees the output
with the source pasted into the edit, so that only what lies outside can differ.
Shapes: frames_FHWC uint8, mask_FHW bool with F = 1 for one that holds all along.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from ...errors import InputError

WINDOW = 7  # of SSIM
ROUNDING = 1.0 / 12.0  # mean squared error of rounding to whole levels: no output is told to be nearer than that
PSNR_MOST = 10.0 * math.log10(255.0**2 / ROUNDING)  # 58.92 dB
Distance = Callable[[np.ndarray, np.ndarray], float]


def outside_of(mask_FHW: np.ndarray, frames: int) -> np.ndarray:
    return np.broadcast_to(~mask_FHW, (frames, *mask_FHW.shape[1:]))


def _frames(
    source_FHWC: np.ndarray, output_FHWC: np.ndarray, mask_FHW: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(source, output, outside) of each frame: a clip of 720P as numbers of eight bytes would not lie in memory."""
    yield from zip(source_FHWC, output_FHWC, outside_of(mask_FHW, len(source_FHWC)), strict=True)


def outside_psnr(source_FHWC: np.ndarray, output_FHWC: np.ndarray, mask_FHW: np.ndarray) -> float | None:
    """dB over all outside pixels of all frames, at most PSNR_MOST; None where the edit is everywhere."""
    total, count = 0.0, 0
    for source_HWC, output_HWC, outside_HW in _frames(source_FHWC, output_FHWC, mask_FHW):
        total += float(((source_HWC.astype(np.float64) - output_HWC)[outside_HW] ** 2).sum())
        count += 3 * int(outside_HW.sum())
    return None if count == 0 else 10.0 * math.log10(255.0**2 / max(total / count, ROUNDING))


def outside_ssim(source_FHWC: np.ndarray, output_FHWC: np.ndarray, mask_FHW: np.ndarray) -> float | None:
    """Mean over the outside pixels whose window is outside as well; None where there are none."""
    try:
        from scipy.ndimage import minimum_filter
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise InputError(f"SSIM needs {error.name}; pip install 'instructx[eval]'") from None
    if min(source_FHWC.shape[1:3]) < WINDOW:
        return None
    total, count = 0.0, 0
    for source_HWC, output_HWC, outside_HW in _frames(source_FHWC, output_FHWC, mask_FHW):
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
    if not outside_of(mask_FHW, len(source_FHWC)).any():
        return None
    found = [
        distance(source_HWC, np.where(outside_HW[..., None], output_HWC, source_HWC))
        for source_HWC, output_HWC, outside_HW in _frames(source_FHWC, output_FHWC, mask_FHW)
    ]
    return float(np.mean(found))
