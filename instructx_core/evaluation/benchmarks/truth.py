"""The judge of the box: scores from 1 to 10 that are computed from the truth, in A.9's dimensions and bands.

Place: outputs of the drawn world -> truth -> scores. Every dimension is a band over an error e with a limit: 10 at no
error, 7 at the limit (A.9: 7 and more is "fully"), 1 at `far`, straight between. Errors are mean |a - b| over RGB in
[0, 1]; p is the output, s the source, t the truth, R the parts that the edit changes.

    instruction   the worst R: |p - t| in R, limit as shapes/success.py's, far = |s - t| in R: nothing done is 1
                  with a reference: |p - s| / |s - t| in R, from 1 to 10: something was put there, whatever it is
    similarity    with a reference: |p - t| in R, as instruction without one
    preservation  |p - t| where nothing may change, limit 0.05, far 0.15
    quality       what is neither source nor truth: min(|p - s|, |p - t|), limit 0.05, far 0.15, in the worst frame;
                  and how that differs between frames, limit 0.02, far 0.06; the worse of the two

So an edit whose instruction and preservation are 7 or more is a success in `eval shapes` but for its limit on the worst
frame. It knows one drawn world and says nothing of films. Shapes: frames_FHWC uint8, error_FHW in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from ... import shapes
from ...errors import InputError
from ...media.files import read_media
from ...shapes.success import OUTSIDE_LIMIT, masked_error, pixel_error, region_limit
from ..judge.run import JudgeCase
from ..scores import Score
from .box import truth_of

FLICKER_LIMIT = 0.02
FAR = 3.0  # times the limit, where nothing else says how far is far


def band(error: float, limit: float, far: float) -> float:
    """10 at no error, 7 at the limit, 1 at `far` and beyond."""
    if error <= limit:
        return 10.0 - 3.0 * error / limit
    return max(1.0, 7.0 - 6.0 * (error - limit) / (far - limit))


def truth_scores(sample: shapes.Sample, prediction_FHWC: np.ndarray) -> tuple[dict[str, float], str]:
    """A.9's dimensions of a prediction, and the errors behind them in words. Raises InputError for another shape."""
    source, target = sample.source_FHWC, sample.target_FHWC
    if prediction_FHWC.shape != target.shape:
        raise InputError(f"the output has shape {prediction_FHWC.shape}, must be {target.shape} (F, H, W, C)")
    to_truth, to_source, idle = (
        pixel_error(a, b) for a, b in ((prediction_FHWC, target), (prediction_FHWC, source), (source, target))
    )
    inside, moved = [], []
    for _, mask_FHW in sample.regions:
        there = masked_error(idle, mask_FHW)[0]
        limit = region_limit(there)
        far = there if there > 1.2 * limit else FAR * limit
        inside.append(band(masked_error(to_truth, mask_FHW)[0], limit, far))
        if there > 0.0:
            moved.append(masked_error(to_source, mask_FHW)[0] / there)
    outside = masked_error(to_truth, sample.outside_FHW)[0]
    foreign_FHW = np.minimum(to_truth, to_source)
    worst = float(foreign_FHW.mean(axis=(1, 2)).max())
    flicker = float(np.abs(np.diff(foreign_FHW, axis=0)).mean()) if len(foreign_FHW) > 1 else 0.0
    done, with_reference = min(inside), sample.reference_HWC is not None
    dimensions = {
        "instruction": 1.0 + 9.0 * min(1.0, min(moved)) if with_reference else done,
        "preservation": band(outside, OUTSIDE_LIMIT, FAR * OUTSIDE_LIMIT),
        "quality": min(
            band(worst, OUTSIDE_LIMIT, FAR * OUTSIDE_LIMIT), band(flicker, FLICKER_LIMIT, FAR * FLICKER_LIMIT)
        ),
        **({"similarity": done} if with_reference else {}),
    }
    words = f"outside {outside:.3f}, neither source nor truth {worst:.3f}, flicker {flicker:.3f}"
    return {name: round(value, 3) for name, value in dimensions.items()}, words


class TruthJudge:
    """Judges outputs of the drawn world by its truth."""

    name = "truth"
    concurrency = 1
    settings: Mapping[str, Any] = MappingProxyType({"kind": "truth"})

    def judge(self, case: JudgeCase) -> tuple[Score, Mapping[str, Any] | None]:
        sample = truth_of(case.item)
        try:
            media = read_media(case.output)
            dimensions, words = truth_scores(sample, media.frames_FHWC)
        except InputError as error:  # an output of another size is a bad output, and counted
            return Score(case.item.id, case.editor, self.name, {}, "missing", str(error), sample=case.sample), None
        return Score(case.item.id, case.editor, self.name, dimensions, "ok", words, sample=case.sample), None
