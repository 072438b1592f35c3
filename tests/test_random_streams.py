"""Random streams: a seed of years ago still means the same draws, and no key shares them with another of its length."""

from __future__ import annotations

import itertools

import numpy as np

from instructx_core.random_streams import random_stream


def test_a_key_means_the_same_draws_for_ever() -> None:
    """Every sample of the worlds and every step of a training hangs on these numbers."""
    assert random_stream(7).integers(0, 1 << 30, 3).tolist() == [288448491, 503388943, 1045684913]
    assert random_stream(1, 2, 3).integers(0, 1 << 30, 3).tolist() == [309708441, 772981956, 321485660]


def test_keys_of_one_length_share_nothing() -> None:
    keys = list(itertools.product((0, 1, 2), repeat=3))
    draws = [random_stream(*key).integers(0, 1 << 62, 64) for key in keys]
    assert not any(np.intersect1d(a, b).size for a, b in itertools.combinations(draws, 2))
    assert (random_stream(1).integers(0, 9, 64) == random_stream(1, 0).integers(0, 9, 64)).all(), "zeros behind: no key"
