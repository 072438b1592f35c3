"""Clips of any length from the procedural world: a 17-frame sample played there and back, with exact ground truth.

Place: sampling -> long -> tests and benchmark of long edits. Frame i of a long clip is a frame of the sample (0 .. 16,
15 .. 0, 1 .. 16, ...), so a window of 17 frames that starts at a multiple of 16 shows just what the model was trained
on, forwards or backwards, and every window can be judged on its own.
Shapes: frames_FHWC uint8 (F, H, W, 3); masks FHW bool.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import InputError
from .sampling import Sample

LONG = 129  # frames of a drawn long clip: 8 windows of 17 that share one frame


def there_and_back(sample: Sample, frames: int = LONG) -> Sample:
    """The sample as a clip of that many frames: its pictures and masks. Raises InputError below 1."""
    if frames < 1:
        raise InputError(f"a clip of {frames} frames is empty; use at least 1")
    last = len(sample.source_FHWC) - 1
    steps = np.arange(frames) % max(2 * last, 1)
    return _pick(sample, last - np.abs(last - steps))


def part(sample: Sample, start: int, stop: int) -> Sample:
    """Frames start .. stop-1 of a sample, to judge a window of it. Raises InputError for an empty part."""
    if not 0 <= start < stop <= len(sample.source_FHWC):
        raise InputError(f"frames {start} to {stop} are no part of {len(sample.source_FHWC)}; use 0 <= start < stop")
    return _pick(sample, np.arange(start, stop))


def _pick(sample: Sample, index_F: np.ndarray) -> Sample:
    numbers = range(len(sample.source_FHWC)) if sample.numbers is None else sample.numbers
    return replace(
        sample,
        numbers=tuple(numbers[index] for index in index_F.tolist()),
        source_FHWC=sample.source_FHWC[index_F],
        target_FHWC=sample.target_FHWC[index_F],
        regions=tuple((name, mask_FHW[index_F]) for name, mask_FHW in sample.regions),
        outside_FHW=sample.outside_FHW[index_F],
        objects=tuple(
            replace(each, source_FHW=each.source_FHW[index_F], target_FHW=each.target_FHW[index_F])
            for each in sample.objects
        ),
    )


def jumps(edited_FHWC: np.ndarray, target_FHWC: np.ndarray) -> np.ndarray:
    """How much each change from frame to frame differs from the true one: (F-1,) mean over pixels, levels of 255.

    At a join this is the visible jump; a still error does not count, however large.
    """
    changes = [np.diff(frames.astype(np.float32), axis=0) for frames in (edited_FHWC, target_FHWC)]
    return np.abs(changes[0] - changes[1]).mean(axis=(1, 2, 3))
