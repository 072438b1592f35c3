"""Randomness that depends on (seed, step, position in the global batch) and on nothing else.

A run that is killed and resumed, or spread over more processes, draws the same samples, sigmas and noise: there is no
generator state to save. Every rank draws the same modality for a step (a sharded model needs that: training notes 1.2).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..random_streams import random_stream

# Streams keep draws of different purpose apart.
MODALITY, INDEX, NOISE, DROPOUT, CROP, TEXT, KEPT = range(7)


def torch_generator(*key: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))


def draw_modality(seed: int, step: int, video_probability: float) -> str:
    return "video" if random_stream(seed, step, MODALITY).random() < video_probability else "image"


def draw_indices(seed: int, step: int, count: int, pool: int, shares: np.ndarray | None = None) -> np.ndarray:
    """(count,) sample numbers below `pool`, the same for any number of processes; all alike, or by `shares` (pool,)."""
    if shares is None:
        return random_stream(seed, step, INDEX).integers(0, pool, count)
    ends = np.cumsum(shares)
    return np.searchsorted(ends / ends[-1], random_stream(seed, step, INDEX).random(count), side="right")


def draw_texts(seed: int, step: int, count: int) -> np.ndarray:
    """(count,) numbers by which one of a sample's texts is chosen."""
    return random_stream(seed, step, TEXT).integers(0, 1 << 30, count)


def draw_noise(seed: int, step: int, positions: range, shape: tuple[int, ...]) -> Tensor:
    """(len(positions), *shape) standard normal fp32: one stream a position of the global batch."""
    return torch.stack([torch.randn(shape, generator=torch_generator(seed, step, NOISE, p)) for p in positions])
