"""Noise levels of one edit and the scheduler that steps through them (flow matching).

x_sigma = (1 - sigma) x0 + sigma eps, sigma 1 = noise, timestep = 1000 sigma in fp32. A scheduler of diffusers does the
steps; this file only decides the list it starts from, so that swapping `pipe.scheduler` takes effect.
The paper gives no sampler; shift 5 and 50 steps are Wan's and Kiwi-Edit's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from diffusers.schedulers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from torch import Tensor

from ..config import InstructXConfig
from ..errors import InputError
from .sigmas import flow_sigmas
from .sigmas import shift_sigmas as shift_sigmas  # part of this module's interface


class FlowScheduler(Protocol):
    """What the loop uses of a scheduler of diffusers. order: evaluations of the model a step."""

    order: int
    timesteps: Tensor

    @property
    def config(self) -> Mapping[str, Any]: ...

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None: ...

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, *, return_dict: bool) -> tuple[Tensor]: ...


@dataclass(frozen=True, slots=True)
class Level:
    """One evaluation of the model: number `step` of `count`, at noise level sigma (0-d, fp32).

    timestep: as the scheduler numbers it. following: the noise level after it. ends_step: a scheduler of second order
    takes two levels a step.
    """

    step: int
    count: int
    timestep: Tensor
    sigma: Tensor
    following: Tensor | float
    ends_step: bool


# name -> the scheduler of a shift
SCHEDULERS: dict[str, Callable[[float], Any]] = {
    "euler": lambda shift: FlowMatchEulerDiscreteScheduler(shift=shift),
    "unipc": lambda shift: UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    ),
}


def build_scheduler(config: InstructXConfig, kind: str = "euler") -> FlowScheduler:
    """A flow-matching scheduler of diffusers, of SCHEDULERS, with the config's shift. InputError for another name."""
    if kind not in SCHEDULERS:
        known = " or ".join(SCHEDULERS)
        raise InputError(f"unknown scheduler {kind!r}; use {known}, or set pipe.scheduler to one of diffusers'")
    return cast(FlowScheduler, SCHEDULERS[kind](config.sampling.shift))


def start(scheduler: FlowScheduler, num_steps: int, device: torch.device | str, sigma_min: float = 0.0) -> list[Level]:
    """Set the scheduler's steps; the levels that they go through, on `device`.

    A scheduler that takes a list of sigmas gets ours (it applies its own shift); another one keeps its own rule.
    Raises InputError for a scheduler that is not flow matching (no sigmas in [0, 1]).
    """
    sigmas_N = flow_sigmas(num_steps, sigma_min)
    flow = getattr(scheduler.config, "use_flow_sigmas", None)
    if flow is False:
        raise InputError(
            f"{type(scheduler).__name__} is not set up for flow matching; pass use_flow_sigmas=True and "
            "prediction_type='flow_prediction', or use FlowMatchEulerDiscreteScheduler"
        )
    accepts = inspect.signature(scheduler.set_timesteps).parameters
    if "sigmas" in accepts:
        if flow is None and "num_inference_steps" in accepts:
            scheduler.set_timesteps(num_inference_steps=num_steps, sigmas=sigmas_N, device=device)
        else:
            scheduler.set_timesteps(sigmas=sigmas_N, device=device)
    else:
        scheduler.set_timesteps(num_steps, device=device)
    timesteps_N = scheduler.timesteps
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is None or float(sigmas.max()) > 1.0 + 1e-6 or len(sigmas) < len(timesteps_N):
        raise InputError(
            f"{type(scheduler).__name__} has no noise levels in [0, 1]; use a flow-matching scheduler such as "
            "FlowMatchEulerDiscreteScheduler"
        )
    set_begin_index = getattr(scheduler, "set_begin_index", None)  # not every scheduler has one
    if set_begin_index is not None:
        set_begin_index(0)
    return _levels(timesteps_N, sigmas.to(device=device, dtype=torch.float32), num_steps, scheduler.order)


def _levels(timesteps_N: Tensor, sigmas: Tensor, num_steps: int, order: int) -> list[Level]:
    count = len(timesteps_N)
    levels = sigmas.unbind()
    extra = count - num_steps * order  # levels before the first whole step, which a scheduler of second order may have
    return [
        Level(
            step=i,
            count=count,
            timestep=timesteps_N[i],
            sigma=levels[i],
            following=levels[i + 1] if i + 1 < count else 0.0,
            ends_step=i == count - 1 or (i + 1 > extra and (i + 1) % order == 0),
        )
        for i in range(count)
    ]
