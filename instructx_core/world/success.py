"""When an edit counts as done: a measure that a person would agree with, from the scenes of both sides.

Place: areas, alternatives, whole -> success -> benchmark. A prediction is right when (1) every thing of the target,
every part that the edit changes and every tile of the rest is near the truth, over all frames and in the worst one, and
(2) it is nearer to the truth, by a margin, than to each thing gone, in another shape, colour, place, size, than to the
picture as before, under other looks, on other grounds, displaced or blurred. What failed is said in words. Thresholds:
limits.py.
Shapes: frames_FHWC uint8, mask_FHW bool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..errors import InputError
from .alternatives import Evidence, Nearness, evidence, name_of, thing_alternatives
from .areas import (
    RegionScore,
    Tiles,
    excess,
    masked_error,
    pixel_error,
    region_score,
    seen_error,
    tile_score,
    tolerant_error,
)
from .limits import CLEAR_CHANGE, NEAR, REGION_LIMIT, SOFT, SOFT_BASIS, THING_LIMIT
from .scene.contents import Scene, Thing, frame_times
from .stage import Stage, build_stage, scene_at
from .whole import (
    coarse_of,
    ground_alternatives,
    look_alternatives,
    mask_alternatives,
    shift_alternatives,
    softening,
    softness,
    unchanged,
    worst_of,
)

__all__ = ["CLEAR_CHANGE", "RegionScore", "Score", "masked_error", "pixel_error", "score"]


class ScorableObject(Protocol):
    """What score() needs of a thing of a sample."""

    place: int
    source: Thing | None
    target: Thing | None
    target_FHW: np.ndarray


class Scorable(Protocol):
    """What score() needs of a sample."""

    source_FHWC: np.ndarray
    target_FHWC: np.ndarray
    source_scene: Scene
    target_scene: Scene
    modality: str
    task: str
    sub_kind: str
    held_out: bool
    numbers: tuple[int, ...] | None

    @property
    def regions(self) -> tuple[tuple[str, np.ndarray], ...]: ...

    @property
    def objects(self) -> Sequence[ScorableObject]: ...


@dataclass(frozen=True, slots=True)
class Score:
    """Verdict on one prediction. Errors in [0, 1].

    regions: by name, of the parts that change, of every thing of the target, and of the worst tile of the rest.
    reasons: in words, what failed; empty for a success. share: how near the prediction is to the alternative nearest to
    it, which is named by `nearest`: 0 as the truth, 1 as the alternative.
    """

    success: bool
    regions: dict[str, RegionScore]
    outside_error: float  # of the worst tile of what is no thing
    outside_ok: bool
    pixel_error: float  # mean over the whole picture
    task: str = ""
    held_out: bool = False
    sub_kind: str = ""
    reasons: tuple[str, ...] = ()
    nearest: str = ""
    share: float = 0.0
    softness: float = 0.0  # how far the picture is on the way to a blurred one


def _check(prediction_FHWC: np.ndarray, target_FHWC: np.ndarray) -> None:
    if not isinstance(prediction_FHWC, np.ndarray) or prediction_FHWC.dtype != np.uint8:
        kind = getattr(prediction_FHWC, "dtype", type(prediction_FHWC).__name__)
        raise InputError(f"prediction is {kind}, must be a numpy uint8 array; round and clip it to 0..255 first")
    if prediction_FHWC.shape != target_FHWC.shape:
        raise InputError(
            f"prediction has shape {prediction_FHWC.shape}, must be {target_FHWC.shape} (F, H, W, C); "
            "generate as many frames of the same size as the sample"
        )


def _areas(sample: Scorable, prediction_FHWC: np.ndarray) -> tuple[dict[str, RegionScore], Tiles]:
    """Scores of the parts that change and of the things of the target; the worst tile of the rest."""
    unit, error_FHW = sample.target_scene.canvas.unit, tolerant_error(prediction_FHWC, sample.target_FHWC)
    scores = {name: region_score(error_FHW, mask, REGION_LIMIT) for name, mask in sample.regions}
    rest_FHW = np.ones(error_FHW.shape, dtype=bool)
    for each in sample.objects:
        if each.target is not None:
            scores[name_of(each.target)] = region_score(error_FHW, each.target_FHW, THING_LIMIT)
            rest_FHW &= ~each.target_FHW
    seen_FHW = seen_error(prediction_FHWC, sample.target_FHWC, unit)
    return scores, tile_score(seen_FHW, error_FHW, rest_FHW, unit)


def _stage(sample: Scorable) -> Stage:
    times_F, numbers = frame_times(sample.modality), sample.numbers
    if numbers is not None:
        times_F = times_F[list(numbers)]
    kept = {thing.place for thing in sample.target_scene.things}
    gone = tuple(thing for thing in sample.source_scene.things if thing.place not in kept)
    return build_stage(scene_at(sample.target_scene, numbers), times_F, gone)


def _alternatives(sample: Scorable, seen: Evidence) -> list[Nearness]:
    """The alternative that the prediction is nearest to, of each thing and of each kind of the whole picture."""
    stage, unit = _stage(sample), sample.target_scene.canvas.unit
    before = {thing.place: thing for thing in sample.source_scene.things}
    target_FHWC = sample.target_FHWC
    groups: list[Sequence[Nearness | None]] = [
        thing_alternatives(stage, level, seen.residual, seen.soft, before.get(level.thing.place))
        for level in stage.levels
    ]
    for name, mask_FHW in sample.regions:
        groups.append([unchanged(seen, sample.source_FHWC, target_FHWC, name, mask_FHW)])
    coarse = coarse_of(seen)
    groups.append(look_alternatives(stage, coarse, target_FHWC))
    groups.append(mask_alternatives(stage, seen))
    groups.append(ground_alternatives(stage, seen))
    groups.append(shift_alternatives(unit, coarse, target_FHWC))
    return [worst for group in groups if (worst := worst_of(group)) is not None]


def _words(scores: dict[str, RegionScore], tiles: Tiles, found: Sequence[Nearness], soft: float) -> list[str]:
    """What failed, the clearest first."""
    failed = sorted((each for each in found if not each.ok), key=lambda each: -each.gain)
    words = [each.fault + ("" if each.share > NEAR else f" in frame {each.frame}") for each in failed]
    if soft > SOFT:
        words.append("the picture is blurred")
    for name, region in sorted(scores.items(), key=lambda entry: -excess(entry[1])):
        if not region.ok:
            words.append(f"{name} is off by {100 * region.error:.0f} % (at most {100 * region.limit:.0f})")
    if not tiles.score.ok:
        frame = "" if tiles.score.error > tiles.score.limit else f" in frame {tiles.frame}"
        words.append(f"what lies behind is off at the {tiles.where}{frame}")
    return words


def score(sample: Scorable, prediction_FHWC: np.ndarray) -> Score:
    """Judge a prediction, (F, H, W, 3) uint8 like the sample's target.

    Raises InputError on another type, dtype or shape: a prediction is never resized or cut to fit.
    """
    target_FHWC = sample.target_FHWC
    _check(prediction_FHWC, target_FHWC)
    scores, tiles = _areas(sample, prediction_FHWC)
    residual_FHWC = prediction_FHWC.astype(np.float32) - target_FHWC
    unit = sample.target_scene.canvas.unit
    found = _alternatives(sample, evidence(residual_FHWC, softening(unit, target_FHWC, SOFT_BASIS)))
    soft = softness(unit, residual_FHWC, target_FHWC)
    nearest = worst_of(found)
    reasons = _words(scores, tiles, found, soft)
    return Score(
        success=not reasons,
        regions={**scores, "rest": tiles.score},
        outside_error=tiles.score.error,
        outside_ok=tiles.score.ok,
        pixel_error=float(pixel_error(prediction_FHWC, target_FHWC).mean()),
        task=sample.task,
        held_out=sample.held_out,
        sub_kind=sample.sub_kind,
        reasons=tuple(reasons),
        nearest="" if nearest is None else nearest.fault,
        share=0.0 if nearest is None else round(nearest.share, 4),
        softness=round(soft, 4),
    )
