"""How steady a clip is: flicker outside of the edit, and a proxy of VBench's motion smoothness.

Place: source, output, mask -> temporal -> measure. Flicker is how much what lies outside of the edit changes from frame
to frame beyond what the source does: 0 where it moves as the source does. smoothness_proxy predicts every inner frame
as the mean of its neighbours, where VBench lets a network interpolate: it knows no motion, so fast motion lowers it.
Compare it between outputs of one source only; it is not VBench's number.
Shapes: frames_FHWC uint8, mask_FHW bool.
"""

from __future__ import annotations

import numpy as np

from .preservation import outside_of


def outside_flicker(source_FHWC: np.ndarray, output_FHWC: np.ndarray, mask_FHW: np.ndarray) -> float | None:
    """Mean |change of the output - change of the source| of pixels outside in both frames, in [0, 1]; None for a
    picture, and where the edit is everywhere."""
    outside_FHW = outside_of(mask_FHW, len(source_FHWC))
    total, count, before_HWC = 0.0, 0, _error(output_FHWC[0], source_FHWC[0])
    for number in range(1, len(source_FHWC)):
        error_HWC = _error(output_FHWC[number], source_FHWC[number])
        both_HW = outside_FHW[number] & outside_FHW[number - 1]
        total += float(np.abs(error_HWC - before_HWC)[both_HW].sum(dtype=np.float64))
        count, before_HWC = count + 3 * int(both_HW.sum()), error_HWC
    return None if count == 0 else total / count / 255.0


def _error(output_HWC: np.ndarray, source_HWC: np.ndarray) -> np.ndarray:
    return output_HWC.astype(np.float32) - source_HWC


def smoothness_proxy(frames_FHWC: np.ndarray) -> float | None:
    """(255 - mean |frame - mean of its neighbours|) / 255 over the inner frames; None for fewer than three."""
    if len(frames_FHWC) < 3:
        return None
    total = 0.0
    for before, frame, after in zip(frames_FHWC, frames_FHWC[1:], frames_FHWC[2:], strict=False):
        total += float(np.abs(frame.astype(np.float32) - (before.astype(np.float32) + after) / 2.0).mean())
    return 1.0 - total / (len(frames_FHWC) - 2) / 255.0
