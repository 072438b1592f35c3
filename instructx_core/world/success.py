"""When an edit counts as done: exact ground truth, errors inside each changed region and outside, fixed thresholds.

Place: sampling -> success -> benchmark. The thresholds below were fixed before any model was trained; they are not
tuned. Errors are mean |prediction - target| over RGB in [0, 1] units. Doing nothing fails every sample by construction
(sampling.py draws again otherwise), the ground truth passes every one.
Shapes: frames_FHWC uint8, mask_FHW bool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..errors import InputError

REGION_FLOOR = 0.06  # a region passes with an error up to this,
REGION_SHARE = 0.35  # or up to this share of the error that doing nothing makes there
OUTSIDE_LIMIT = 0.05  # mean error allowed where nothing may change
FRAME_FACTOR = 1.6  # no single frame's region error may exceed the limit times this
CLEAR_CHANGE = 0.10  # an edit is only asked for if doing nothing makes at least this error in a region


class Scorable(Protocol):
    """What score() needs of a sample."""

    source_FHWC: np.ndarray
    target_FHWC: np.ndarray
    outside_FHW: np.ndarray

    @property
    def regions(self) -> tuple[tuple[str, np.ndarray], ...]: ...


@dataclass(frozen=True, slots=True)
class RegionScore:
    """Mean error of a region, the worst frame's, the limit both are held to (the frame times FRAME_FACTOR)."""

    error: float
    worst_frame: float
    limit: float
    ok: bool


@dataclass(frozen=True, slots=True)
class Score:
    """Verdict on one prediction. Errors in [0, 1]; outside_error is 0 where nothing lies outside the edit."""

    success: bool
    regions: dict[str, RegionScore]
    outside_error: float
    outside_ok: bool
    pixel_error: float  # mean over the whole picture
    task: str = ""
    held_out: bool = False


def pixel_error(a_FHWC: np.ndarray, b_FHWC: np.ndarray) -> np.ndarray:
    """Mean |a - b| over RGB: (F, H, W) float32 in [0, 1]."""
    high, low = np.maximum(a_FHWC, b_FHWC), np.minimum(a_FHWC, b_FHWC)
    difference = high - low  # exact in uint8
    total = difference[..., 0].astype(np.float32) + difference[..., 1] + difference[..., 2]
    return total * np.float32(1.0 / 765.0)


def masked_error(error_FHW: np.ndarray, mask_FHW: np.ndarray) -> tuple[float, float]:
    """Mean over frames and worst frame of the mean error inside the mask; frames without mask pixels do not count."""
    count_F = mask_FHW.sum(axis=(1, 2))
    seen = count_F > 0
    if not seen.any():
        return 0.0, 0.0
    sum_F = np.where(mask_FHW, error_FHW, np.float32(0)).sum(axis=(1, 2), dtype=np.float64)
    frame_F = sum_F[seen] / count_F[seen]
    return float(frame_F.mean()), float(frame_F.max())


def region_limit(idle_error: float) -> float:
    """Largest error a region may have, given the error of doing nothing there."""
    return max(REGION_FLOOR, REGION_SHARE * idle_error)


def score_regions(
    source_FHWC: np.ndarray,
    target_FHWC: np.ndarray,
    prediction_FHWC: np.ndarray,
    regions: Sequence[tuple[str, np.ndarray]],
) -> dict[str, RegionScore]:
    """Score every (name, mask_FHW) against its limit."""
    idle_FHW, error_FHW = pixel_error(source_FHWC, target_FHWC), pixel_error(prediction_FHWC, target_FHWC)
    scores = {}
    for name, mask_FHW in regions:
        limit = region_limit(masked_error(idle_FHW, mask_FHW)[0])
        mean, worst = masked_error(error_FHW, mask_FHW)
        scores[name] = RegionScore(mean, worst, limit, mean <= limit and worst <= FRAME_FACTOR * limit)
    return scores


def score(sample: Scorable, prediction_FHWC: np.ndarray) -> Score:
    """Judge a prediction, (F, H, W, 3) uint8 like the sample's target.

    Raises InputError on another type, dtype or shape: a prediction is never resized or cut to fit.
    """
    target = sample.target_FHWC
    if not isinstance(prediction_FHWC, np.ndarray) or prediction_FHWC.dtype != np.uint8:
        kind = getattr(prediction_FHWC, "dtype", type(prediction_FHWC).__name__)
        raise InputError(f"prediction is {kind}, must be a numpy uint8 array; round and clip it to 0..255 first")
    if prediction_FHWC.shape != target.shape:
        raise InputError(
            f"prediction has shape {prediction_FHWC.shape}, must be {target.shape} (F, H, W, C); "
            "generate as many frames of the same size as the sample"
        )
    regions = score_regions(sample.source_FHWC, target, prediction_FHWC, sample.regions)
    error_FHW = pixel_error(prediction_FHWC, target)
    outside_error, _ = masked_error(error_FHW, sample.outside_FHW)
    outside_ok = outside_error <= OUTSIDE_LIMIT
    return Score(
        success=outside_ok and all(region.ok for region in regions.values()),
        regions=regions,
        outside_error=outside_error,
        outside_ok=outside_ok,
        pixel_error=float(error_FHW.mean()),
        task=getattr(sample, "task", ""),
        held_out=bool(getattr(sample, "held_out", False)),
    )
