"""Edits that are wrong in one known way and degree, out of a right one: what a judge must put in order.

Place: a source with its right edit (drawn, or real with a mask) -> planted -> cases -> check. Each plant is an
operation on pixels, so that drawn and real clips get the same ones; None where a pair cannot have it. CHAINS says, by
dimension, which must score above which. It claims only what nobody doubts: right before half done before nothing done,
more damage below less, and right before an edit in another colour or at another place.
Shapes: frames_FHWC uint8, mask_FHW bool (F = 1: all along), white where the edit is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

LEAST_CHANGE = 0.05  # mean |difference| in the mask that makes a colour another one
MOST_OVERLAP = 0.2  # of the edit with its mirrored place
NOISES = (8.0, 24.0, 60.0)  # levels of 255, standard deviation
BLURS = (0.7, 1.5, 3.0)  # pixels at 64 pixels of width, standard deviation
FLICKERS = (5.0, 12.0, 40.0)  # levels by which every second frame differs


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A source, its right edit, and where it is; mask None: not known."""

    source_FHWC: np.ndarray
    target_FHWC: np.ndarray
    mask_FHW: np.ndarray | None
    seed: int

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    @property
    def edit_FHW1(self) -> np.ndarray | None:
        """The mask for every frame; None where it is not known."""
        if self.mask_FHW is None:
            return None
        return np.broadcast_to(self.mask_FHW, self.source_FHWC.shape[:3])[..., None]


def _levels(frames: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def _by_frame(change: Callable[[np.ndarray, int], np.ndarray], frames_FHWC: np.ndarray) -> np.ndarray:
    """change(frame, its number) of each, in levels: a clip of a film as floats would not lie in memory."""
    return np.stack([_levels(change(frame_HWC, number)) for number, frame_HWC in enumerate(frames_FHWC)])


def right(pair: Pair) -> np.ndarray:
    return pair.target_FHWC


def undone(pair: Pair) -> np.ndarray:
    return pair.source_FHWC


def halfway(pair: Pair) -> np.ndarray:
    """The edit as a ghost: halfway between source and target."""

    def halfway_frame(frame_HWC: np.ndarray, number: int) -> np.ndarray:
        return (pair.source_FHWC[number].astype(np.float32) + frame_HWC) / 2.0

    return _by_frame(halfway_frame, pair.target_FHWC)


def wrong_colour(pair: Pair) -> np.ndarray | None:
    """The edit in another colour: channels turned, or inverted where that changes more."""
    edit = pair.edit_FHW1
    if edit is None or not edit.any():
        return None
    target = pair.target_FHWC
    options = [np.roll(target, 1, axis=-1), 255 - target]
    changes = [_change(option, target, edit) for option in options]
    best = int(np.argmax(changes))
    return None if changes[best] < LEAST_CHANGE else np.where(edit, options[best], target)


def _change(frames_FHWC: np.ndarray, target_FHWC: np.ndarray, edit_FHW1: np.ndarray) -> float:
    """Mean |difference| in the edit, in [0, 1]."""
    sides = zip(frames_FHWC, target_FHWC, edit_FHW1[..., 0], strict=True)
    total = sum(float(np.abs(a[there].astype(np.float32) - b[there]).sum()) for a, b, there in sides)
    return total / (3 * int(edit_FHW1.sum())) / 255.0


def wrong_object(pair: Pair) -> np.ndarray | None:
    """The edit at the mirrored place, nothing where it was asked for."""
    edit = pair.edit_FHW1
    if edit is None or not edit.any():
        return None
    for axis in (2, 1):
        there = np.flip(edit, axis)
        if (edit & there).sum() <= MOST_OVERLAP * edit.sum():
            return np.where(there, np.flip(pair.target_FHWC, axis), pair.source_FHWC)
    return None


def damaged(pair: Pair, degree: int) -> np.ndarray | None:
    """Noise in all that should stay."""
    edit = pair.edit_FHW1
    if edit is None or edit.all():
        return None
    rng = pair.rng

    def noisy_frame(frame_HWC: np.ndarray, _number: int) -> np.ndarray:
        return frame_HWC + rng.normal(0.0, NOISES[degree], frame_HWC.shape)

    return np.where(edit, pair.target_FHWC, _by_frame(noisy_frame, pair.target_FHWC))


def blurred(pair: Pair, degree: int) -> np.ndarray:
    sigma = BLURS[degree] * pair.target_FHWC.shape[2] / 64.0

    def blurred_frame(frame_HWC: np.ndarray, _number: int) -> np.ndarray:
        return gaussian_filter(frame_HWC.astype(np.float32), (sigma, sigma, 0.0), mode="nearest")

    return _by_frame(blurred_frame, pair.target_FHWC)


def flickering(pair: Pair, degree: int) -> np.ndarray | None:
    """Every second frame nearer to middle grey; of a picture None."""
    if len(pair.target_FHWC) < 3:
        return None

    def flickering_frame(frame_HWC: np.ndarray, number: int) -> np.ndarray:
        frame = frame_HWC.astype(np.float32)
        return frame + number % 2 * FLICKERS[degree] * np.sign(127.5 - frame)

    return _by_frame(flickering_frame, pair.target_FHWC)


def _degrees(
    name: str, plant: Callable[[Pair, int], np.ndarray | None]
) -> dict[str, Callable[[Pair], np.ndarray | None]]:
    return {f"{name} {degree + 1}": lambda pair, degree=degree: plant(pair, degree) for degree in range(3)}


PLANTS: dict[str, Callable[[Pair], np.ndarray | None]] = {
    "right": right,
    "half done": halfway,
    "undone": undone,
    "wrong colour": wrong_colour,
    "wrong object": wrong_object,
    **_degrees("damaged", damaged),
    **_degrees("blurred", blurred),
    **_degrees("flickering", flickering),
}
WRONG_REFERENCE = "wrong reference"  # the wrong colour, where a reference says the colour

# By dimension: chains of plants, each scoring above all that follow it in the chain.
CHAINS: dict[str, tuple[tuple[str, ...], ...]] = {
    "instruction": (("right", "half done", "undone"), ("right", "wrong colour"), ("right", "wrong object")),
    "preservation": (
        ("right", "damaged 1", "damaged 2", "damaged 3"),
        ("right", "wrong object"),
        ("undone", "damaged 2"),
    ),
    "quality": (
        ("right", "blurred 1", "blurred 2", "blurred 3"),
        ("right", "flickering 1", "flickering 2", "flickering 3"),
    ),
    "similarity": (("right", WRONG_REFERENCE),),
}


def planted_edits(pair: Pair, has_reference: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Name and frames of every plant that the pair can have, one after the other: each is as large as the clip."""
    for name, plant in PLANTS.items():
        frames_FHWC = plant(pair)
        if frames_FHWC is not None:
            yield WRONG_REFERENCE if has_reference and name == "wrong colour" else name, frames_FHWC
