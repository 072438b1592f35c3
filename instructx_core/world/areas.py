"""Errors by area: of each thing's visible pixels, of each part that changes, of the rest in overlapping tiles.

Place: limits -> areas -> success. An error counts from the truth's own range around the pixel on, so that a soft edge
or one that lies half a pixel off makes none, and a changed colour makes all of it. What lies behind the things is
judged as the eye sees it, averaged over a few pixels, and its grain (of a compression, of a VAE) by a wider limit.
Shapes: error_FHW float32 in [0, 1]; mask_FHW bool.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .limits import BLOCK_LIMIT, FRAME_FACTOR, GRAIN_LIMIT, GRAIN_RADIUS, PART, TILE, TILE_LIMIT
from .scene.noise import blur

ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "center", "right")


@dataclass(frozen=True, slots=True)
class RegionScore:
    """Mean error of a region, the worst frame's, the limit both are held to (the frame times FRAME_FACTOR)."""

    error: float
    worst_frame: float
    limit: float
    ok: bool


def pixel_error(a_FHWC: np.ndarray, b_FHWC: np.ndarray) -> np.ndarray:
    """Mean |a - b| over RGB: (F, H, W) float32 in [0, 1]."""
    high, low = np.maximum(a_FHWC, b_FHWC), np.minimum(a_FHWC, b_FHWC)
    return _mean(high - low)  # exact in uint8


def _mean(difference: np.ndarray) -> np.ndarray:
    total = difference[..., 0].astype(np.float32) + difference[..., 1] + difference[..., 2]
    return total * np.float32(1.0 / 765.0)


def _extreme(frames_FHWC: np.ndarray, pick: np.ufunc) -> np.ndarray:
    """The largest or smallest of the 3x3 pixels around each."""
    for axis in (1, 2):
        here = [slice(None)] * 4
        after, before = list(here), list(here)
        after[axis], before[axis] = slice(1, None), slice(None, -1)
        found = frames_FHWC.copy()
        low, high = tuple(before), tuple(after)
        found[low] = pick(found[low], frames_FHWC[high])
        found[high] = pick(found[high], frames_FHWC[low])
        frames_FHWC = found
    return frames_FHWC


def tolerant_error(prediction_FHWC: np.ndarray, target_FHWC: np.ndarray) -> np.ndarray:
    """How far the prediction is outside the target's range in the 3x3 pixels around: (F, H, W) float32 in [0, 1]."""
    high, low = _extreme(target_FHWC, np.maximum), _extreme(target_FHWC, np.minimum)
    return _mean(np.maximum(prediction_FHWC, high) - high + (low - np.minimum(prediction_FHWC, low)))


def masked_error(error_FHW: np.ndarray, mask_FHW: np.ndarray, part: float = 0.0) -> tuple[float, float]:
    """Mean over frames and worst frame of the mean error inside the mask; frames without mask pixels do not count, nor
    those that show less than that part of what the mask shows elsewhere."""
    count_F = mask_FHW.sum(axis=(1, 2))
    seen = count_F > part * count_F.max(initial=0)
    if not seen.any():
        return 0.0, 0.0
    sum_F = np.where(mask_FHW, error_FHW, np.float32(0)).sum(axis=(1, 2), dtype=np.float64)
    frame_F = sum_F[seen] / count_F[seen]
    return float(frame_F.mean()), float(frame_F.max())


def region_score(error_FHW: np.ndarray, mask_FHW: np.ndarray, limit: float) -> RegionScore:
    """The error in the mask against a limit."""
    mean, worst = masked_error(error_FHW, mask_FHW, PART)
    return RegionScore(mean, worst, limit, mean <= limit and worst <= FRAME_FACTOR * limit)


def _blocks(values_FHW: np.ndarray, side: int) -> np.ndarray:
    """Sums over blocks of that side; the last row and column of blocks may be smaller."""
    _, height, width = values_FHW.shape
    rows = np.add.reduceat(values_FHW, np.arange(0, height, side), axis=1)
    return np.add.reduceat(rows, np.arange(0, width, side), axis=2)


def _pairs(sums: np.ndarray) -> np.ndarray:
    """Sums over 2x2 blocks, overlapping."""
    rows = sums[:, 1:] + sums[:, :-1]
    return rows[:, :, 1:] + rows[:, :, :-1]


@dataclass(frozen=True, slots=True)
class Tiles:
    """The worst tile of the rest: its score, where it is in words, and its worst frame."""

    score: RegionScore
    where: str
    frame: int


def _where(index: int, count: int, names: tuple[str, str, str]) -> str:
    return names[min(2, 3 * index // count)]


def box_blur(frames_FHWC: np.ndarray, radius: int) -> np.ndarray:
    """Each pixel's mean over the (2 radius + 1)^2 around, twice, the border repeated: float32."""
    return np.stack([blur(frame, radius) for frame in frames_FHWC])


def seen_error(prediction_FHWC: np.ndarray, target_FHWC: np.ndarray, unit: float) -> np.ndarray:
    """tolerant_error of both pictures as the eye takes them in, averaged over a few pixels: grain makes none."""
    radius = max(1, round(GRAIN_RADIUS * unit))
    return tolerant_error(box_blur(prediction_FHWC, radius), box_blur(target_FHWC, radius))


def tile_score(seen_FHW: np.ndarray, error_FHW: np.ndarray, rest_FHW: np.ndarray, unit: float) -> Tiles:
    """The worst of all tiles and blocks of what is no thing; those that show less than a quarter of it don't count.

    seen_FHW: seen_error, held to the limits of tiles and of blocks; error_FHW: tolerant_error, to that of grain.
    """
    side = round(TILE * unit) // 2
    count = _blocks(rest_FHW.astype(np.float32), side)
    seen_sum, error_sum = (_blocks(np.where(rest_FHW, each, np.float32(0)), side) for each in (seen_FHW, error_FHW))
    counts, area = _pairs(count), 4 * side**2
    scales = (
        (seen_sum, count, BLOCK_LIMIT, side**2),
        (_pairs(seen_sum), counts, TILE_LIMIT, area),
        (_pairs(error_sum), counts, GRAIN_LIMIT, area),
    )
    return max((_worst(*scale) for scale in scales), key=lambda found: excess(found.score))


def _worst(sums_Fhw: np.ndarray, counts_Fhw: np.ndarray, limit: float, area: int) -> Tiles:
    """The worst tile of one scale, from the sums of errors and of pixels."""
    seen = counts_Fhw >= 0.25 * area
    frames = np.where(seen, sums_Fhw / np.maximum(counts_Fhw, 1.0), 0.0)
    mean_hw = frames.sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    over_hw = np.maximum(mean_hw, frames.max(axis=0) / FRAME_FACTOR) / limit
    row, column = np.unravel_index(int(over_hw.argmax()), over_hw.shape)
    mean, most = float(mean_hw[row, column]), float(frames[:, row, column].max())
    score = RegionScore(mean, most, limit, bool(over_hw[row, column] <= 1.0))
    where = f"{_where(int(row), len(over_hw), ROWS)} {_where(int(column), over_hw.shape[1], COLUMNS)}"
    return Tiles(score, where, int(frames[:, row, column].argmax()))


def excess(score: RegionScore) -> float:
    """Error over limit, of the mean or the worst frame; more than 1 fails."""
    return max(score.error, score.worst_frame / FRAME_FACTOR) / score.limit
