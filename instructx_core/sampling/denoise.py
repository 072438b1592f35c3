"""The loop: noise -> edited latents, level by level. Pipeline, benchmark and training's validation all run this one.

Between noise.py and decode.py. What makes it faster is put around it by its caller, in the open: hoisted constants
and step caches are contexts (speed/), progress and interruption are the caller's walk through the levels.
Legend: B batch, C channels, T latent frames, H W cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from torch import Tensor

from ..denoiser import InstructXTransformer3DModel
from .guidance import Conditions, Guidance, predict
from .pinning import PinnedFrames, pin
from .schedule import FlowScheduler, Level

# What happens after a step, with the latents, conditions and guidance, which it gives back, changed or not.
OnStep: TypeAlias = Callable[[Level, Tensor, Conditions, Guidance], tuple[Tensor, Conditions, Guidance]]
NO_GUIDANCE = Guidance()


def denoise(
    model: InstructXTransformer3DModel,
    scheduler: FlowScheduler,
    latents_BCTHW: Tensor,
    conditions: Conditions,
    levels: Iterable[Level],
    guidance: Guidance = NO_GUIDANCE,
    pinned: PinnedFrames | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Latents (B, C, T, H, W) at the first of `levels`, fp32 -> those after the last one, which may come early.

    The scheduler is the one that `levels` are of (schedule.start). Raises FloatingPointError when a step is not finite.
    """
    for level in levels:
        velocity_BCTHW = predict(model, latents_BCTHW, level, conditions, guidance)
        latents_BCTHW = scheduler.step(velocity_BCTHW, level.timestep, latents_BCTHW, return_dict=False)[0]
        latents_BCTHW = pin(latents_BCTHW, pinned, level.following)
        if on_step is not None:
            latents_BCTHW, conditions, guidance = on_step(level, latents_BCTHW, conditions, guidance)
    return latents_BCTHW
