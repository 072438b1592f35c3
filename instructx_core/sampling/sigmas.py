"""Noise levels of one edit, before any scheduler: numpy only, so that the ComfyUI nodes can use them without diffusers.

x_sigma = (1 - sigma) x0 + sigma eps, sigma 1 = noise. The paper gives no sampler; shift 5 and 50 steps are Wan's and
Kiwi-Edit's. Used by schedule.py (diffusers) and by the Sampler node (ComfyUI's samplers).
Legend: N steps.
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError


def flow_sigmas(num_steps: int, sigma_min: float = 0.0) -> np.ndarray:
    """(N,) noise levels before the shift, from 1 down, `sigma_min` excluded: linspace(1, sigma_min, N + 1)[:-1].

    Raises InputError unless num_steps >= 1 and 0 <= sigma_min < 1.
    """
    if num_steps < 1:
        raise InputError(f"num_inference_steps is {num_steps}; use at least 1")
    if not 0.0 <= sigma_min < 1.0:
        raise InputError(f"sigma_min is {sigma_min}; it must lie in [0, 1)")
    return np.linspace(1.0, sigma_min, num_steps + 1)[:-1].astype(np.float32)


def shift_sigmas(sigmas_N: np.ndarray, shift: float) -> np.ndarray:
    """sigma' = shift sigma / (1 + (shift - 1) sigma): more steps at high noise for shift > 1."""
    return shift * sigmas_N / (1.0 + (shift - 1.0) * sigmas_N)
