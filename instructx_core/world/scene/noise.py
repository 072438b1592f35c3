"""Fractal noise and blur that are the same on every machine, to the last bit.

Place: noise -> leaves, photographic. Nothing here sums in an order that a processor may choose (no FFT, no matrix
product, no np.sum of floats): blurs are integer sums, noise is integer lattices under cubic splines.
Shapes: noise_NN float32 about [-1, 1], toroidal: its right edge continues on the left, so any window of any size fits.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ...random_streams import random_stream

SIDE = 512  # pixels, of a noise tile
SYMMETRIES = 8


def _finer(grid: np.ndarray, axis: int) -> np.ndarray:
    """Twice as many points along an axis of a toroidal grid: one subdivision of a cubic B-spline."""
    rows = grid.swapaxes(0, axis)
    after = np.concatenate((rows[1:], rows[:1]))
    before = np.concatenate((rows[-1:], rows[:-1]))
    fine = np.empty((2 * len(rows), *rows.shape[1:]), dtype=np.float32)
    fine[0::2] = 0.75 * rows + 0.125 * (before + after)
    fine[1::2] = 0.5 * (rows + after)
    return fine.swapaxes(0, axis)


@lru_cache(maxsize=64)
def tile(number: int, gain: float = 0.8, stretch: int = 1, first: int = 4) -> np.ndarray:
    """Fractal noise, (SIDE, SIDE) float32, about [-1, 1], read-only.

    gain: amplitude of an octave over the one below; 1 gives the 1/f spectrum of photographs, less is smoother.
    stretch: how many times longer than high the grain is (fibres), a power of 2. first: rows of the lowest octave.
    """
    rng = random_stream(71, number, stretch, first, round(100 * gain))
    rows, columns = first, max(1, first // stretch)
    total, amplitude, power = np.zeros((rows, columns), dtype=np.float32), 1.0, 0.0
    while rows < SIDE:
        total = total + amplitude * (rng.integers(-1024, 1025, total.shape) / 1024.0).astype(np.float32)
        power += amplitude * amplitude
        amplitude, rows = amplitude * gain, 2 * rows
        total = _finer(total, 0)
        if rows // stretch > columns:
            total, columns = _finer(total, 1), 2 * columns
    while columns < SIDE:
        total, columns = _finer(total, 1), 2 * columns
    total = np.clip(total * (1.5 / float(np.sqrt(power))), -1.0, 1.0)
    total.setflags(write=False)
    return total


def _cut(field: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A window at a random place: a view where the field is large enough, else wound around its edges."""
    room = field.shape[0] - height, field.shape[1] - width
    if min(room) >= 0:
        top, left = int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1))
        return field[top : top + height, left : left + width]
    rows = (int(rng.integers(field.shape[0])) + np.arange(height)) % field.shape[0]
    columns = (int(rng.integers(field.shape[1])) + np.arange(width)) % field.shape[1]
    return field[rows[:, None], columns[None, :]]


def window(field: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A window of a toroidal field at a random place, turned and mirrored at random."""
    turn = int(rng.integers(SYMMETRIES))
    part = _cut(field.swapaxes(0, 1) if turn & 4 else field, height, width, rng)
    return part[:: -1 if turn & 1 else 1, :: -1 if turn & 2 else 1]


def straight(field: np.ndarray, height: int, width: int, rng: np.random.Generator, upright: bool = False) -> np.ndarray:
    """A window that is not turned, for fields with a direction; upright: rows and columns swapped."""
    return _cut(field.swapaxes(0, 1) if upright else field, height, width, rng)


def _box(image: np.ndarray, radius: int, axis: int) -> np.ndarray:
    """Mean over 2 radius + 1 pixels along an axis, edges repeated; int32 in and out."""
    index = np.clip(np.arange(-radius - 1, image.shape[axis] + radius), 0, image.shape[axis] - 1)
    sums = np.cumsum(image.take(index, axis=axis), axis=axis, dtype=np.int32).swapaxes(0, axis)
    width = 2 * radius + 1
    return ((sums[width:] - sums[:-width] + width // 2) // width).swapaxes(0, axis)


def blur(image_HWC: np.ndarray, radius: int, passes: int = 2) -> np.ndarray:
    """Box blur of a float image 0..255, passes times: two look like the disc of a lens out of focus."""
    if radius < 1:
        return image_HWC
    fixed = np.rint(image_HWC * 64.0).astype(np.int32)
    for _ in range(passes):
        fixed = _box(_box(fixed, radius, 0), radius, 1)
    return fixed.astype(np.float32) * (1.0 / 64.0)
