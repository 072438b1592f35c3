"""The measure of an edit that the model was not taught: the truth passes, and what is nearly it does not."""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageFilter

from instructx_core.shapes.sepia_frame import FramedSample, framed, framed_sample, ring, score_framed, toned

COUNT = 40


@cache
def drawn() -> tuple[FramedSample, ...]:
    return tuple(framed_sample("val", index) for index in range(COUNT))


def blurred(frames_FHWC: np.ndarray, pixels: float) -> np.ndarray:
    return np.asarray(Image.fromarray(frames_FHWC[0]).filter(ImageFilter.GaussianBlur(pixels)))[None]


def noisy(sample: FramedSample, levels: float) -> np.ndarray:
    noise = np.random.default_rng(sample.index).normal(0, levels, sample.target_FHWC.shape)
    return np.clip(sample.target_FHWC + noise, 0, 255).astype(np.uint8)


def inside(sample: FramedSample, frames_FHWC: np.ndarray) -> np.ndarray:
    """The truth's frame around other frames."""
    return np.where(ring(0, 8)[None, ..., None], sample.target_FHWC, frames_FHWC)


def shift(sample: FramedSample, pixels: int) -> np.ndarray:
    return framed(np.roll(toned(sample.source_FHWC), pixels, 2))


PLANTED = {
    "undone": lambda sample: sample.source_FHWC,
    "frame only": lambda sample: framed(sample.source_FHWC),
    "tone only": lambda sample: toned(sample.source_FHWC),
    "half as wide": lambda sample: framed(toned(sample.source_FHWC), 4),
    "half as wide again": lambda sample: framed(toned(sample.source_FHWC), 12),
    "a white frame": lambda sample: np.where(ring(0, 8)[..., None], np.uint8(255), sample.target_FHWC),
    "grey instead of sepia": lambda sample: inside(sample, toned(sample.source_FHWC)[..., :1].repeat(3, -1)),
    "another picture": lambda sample: framed_sample("val", sample.index + COUNT).target_FHWC,
    "nothing but the ground": lambda sample: inside(
        sample, np.broadcast_to(np.median(sample.target_FHWC[0, 12:-12, 12:-12], (0, 1)), sample.target_FHWC.shape)
    ),
    "blurred by 4": lambda sample: inside(sample, blurred(sample.target_FHWC, 4)),
    "moved by 4": lambda sample: shift(sample, 4),
    "noise of 60": lambda sample: noisy(sample, 60),
}


def share(plant) -> float:
    return float(np.mean([score_framed(sample, np.asarray(plant(sample), np.uint8)).success for sample in drawn()]))


def test_the_truth_passes_also_with_small_errors() -> None:
    assert share(lambda sample: sample.target_FHWC) == 1
    assert share(lambda sample: noisy(sample, 8)) == 1
    assert share(lambda sample: blurred(sample.target_FHWC, 0.5)) >= 0.95


@pytest.mark.parametrize("name", PLANTED)
def test_planted_errors_are_noticed(name: str) -> None:
    assert share(PLANTED[name]) <= 0.02


def test_a_thing_left_out_or_not_toned_is_noticed() -> None:
    """Wherever the two can be told apart at all."""
    asked = passed = 0
    for sample in drawn():
        for name, other in sample.alternatives.items():
            if "thing" in name and (np.abs(other.astype(int) - sample.target_FHWC).max(-1) > 40).sum() > 40:
                asked, passed = asked + 1, passed + score_framed(sample, other).success
    assert asked > COUNT and passed == 0


def test_pictures_are_the_same_everywhere() -> None:
    digest = hashlib.sha256()
    for index in range(4):
        sample = framed_sample("test", index)
        digest.update(sample.source_FHWC.tobytes() + sample.target_FHWC.tobytes())
    assert digest.hexdigest()[:16] == "521089e1d3b376c9"
