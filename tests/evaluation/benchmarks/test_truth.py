"""The judge of the box: bands meet the limits of `eval shapes`, planted damage lowers its own dimension."""

from __future__ import annotations

import numpy as np
import pytest

from instructx_core import shapes
from instructx_core.errors import InputError
from instructx_core.evaluation.benchmarks.tasks import VIE_COUNTS
from instructx_core.evaluation.benchmarks.truth import band, truth_scores

SAMPLES = {task: shapes.sample("test", 0, "video", task) for task in VIE_COUNTS}


def blurred(frames_FHWC: np.ndarray) -> np.ndarray:
    wide = np.stack([np.roll(frames_FHWC, (y, x), (1, 2)) for y in range(-3, 4) for x in range(-3, 4)])
    return wide.mean(axis=0).astype(np.uint8)


def flickering(frames_FHWC: np.ndarray) -> np.ndarray:
    shift = np.where(np.arange(len(frames_FHWC)) % 2, 40, -40)[:, None, None, None]
    return np.clip(frames_FHWC.astype(int) + shift, 0, 255).astype(np.uint8)


def test_bands() -> None:
    assert [band(e, 0.1, 0.3) for e in (0.0, 0.1, 0.2, 0.3, 9.0)] == pytest.approx([10, 7, 4, 1, 1])


@pytest.mark.parametrize("task", VIE_COUNTS)
def test_the_truth_is_perfect_and_nothing_done_fails(task: str) -> None:
    sample = SAMPLES[task]
    perfect, _ = truth_scores(sample, sample.target_FHWC)
    assert set(perfect.values()) == {10.0}
    assert ("similarity" in perfect) == (sample.reference_HWC is not None)
    idle, _ = truth_scores(sample, sample.source_FHWC)
    assert idle["instruction"] == pytest.approx(1.0, abs=0.01)
    assert idle["preservation"] == idle["quality"] == 10.0


@pytest.mark.parametrize("task", ["add", "color", "hybrid"])
def test_damage_lowers_its_own_dimension(task: str) -> None:
    sample = SAMPLES[task]
    flicker, _ = truth_scores(sample, flickering(sample.target_FHWC))
    blur, _ = truth_scores(sample, blurred(sample.target_FHWC))
    assert flicker["quality"] < 4 and blur["quality"] < 10
    elsewhere = sample.target_FHWC.copy()
    elsewhere[sample.outside_FHW] = 255 - elsewhere[sample.outside_FHW]
    damaged, _ = truth_scores(sample, elsewhere)
    assert damaged["preservation"] == 1.0 and damaged["instruction"] == 10.0


@pytest.mark.parametrize("task", ["add", "remove", "swap", "color", "style", "tone"])
def test_half_of_the_way_lies_between(task: str) -> None:
    """Mixed from the source to the truth, instruction never falls, and 7 is where `eval shapes` lets a region pass."""
    sample, seen = SAMPLES[task], []
    for share in np.linspace(0, 1, 9):
        mixed = (sample.source_FHWC * (1 - share) + sample.target_FHWC * share).round().astype(np.uint8)
        dimensions, _ = truth_scores(sample, mixed)
        verdict = shapes.score(sample, mixed)
        assert (dimensions["instruction"] >= 7) == all(r.error <= r.limit for r in verdict.regions.values())
        seen.append(dimensions["instruction"])
    assert seen == sorted(seen) and seen[0] < 2 and seen[-1] == 10


def test_a_wrong_object_follows_the_instruction_and_is_not_similar() -> None:
    sample = SAMPLES["reference_swap"]
    wrong = sample.target_FHWC.copy()
    (_, mask_FHW), *_ = sample.regions
    wrong[mask_FHW] = 255 - wrong[mask_FHW]
    dimensions, _ = truth_scores(sample, wrong)
    assert dimensions["instruction"] > 7 > dimensions["similarity"]


def test_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="must be"):
        truth_scores(SAMPLES["add"], SAMPLES["add"].target_FHWC[:, ::2])
