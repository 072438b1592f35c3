"""The values of the sampling inputs, and the edit that they are for: one object each, for Sampler and Long Video.

schema.py has the inputs themselves; sampling.py runs them. The host checks what a widget holds, but not what a wire
brings instead: that is looked at here, before anything is computed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ...instructx_core.errors import InputError
from .host_model import sampler_names, scheduler_names

PIPELINE_SCHEDULE = "instructx"
SEED, STEPS = (0, 2**64 - 1), (1, 1000)
CFG, SHIFT, DENOISE = (0.0, 30.0), (0.01, 100.0), (0.01, 1.0)


def schedules() -> list[str]:
    """The pipeline's noise levels, then those of the host."""
    return [PIPELINE_SCHEDULE, *scheduler_names()]


def wired_number(name: str, value: Any, least: float, most: float) -> Any:
    """The value as a number of the limits' type. Raises InputError for another, or one beyond the limits."""
    kind = type(least)
    try:
        number = kind(value)
        fits = number == value and least <= number <= most
    except (TypeError, ValueError, OverflowError, RuntimeError):
        fits = False
    if not fits:
        rule = "a whole number" if kind is int else "a number"
        raise InputError(f"{name} is {value!r}; it must be {rule} from {least} to {most}: look at what is wired to it")
    return number


def wired_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Raises InputError for a value that the widget does not offer."""
    if value not in choices:
        raise InputError(f"{name} is {value!r}; use one of {', '.join(choices)}: look at what is wired to it")


@dataclass(frozen=True)
class SamplingSettings:
    """The values of `sampling_inputs`. denoise: part of the schedule that is run, 0.01 to 1.

    Raises InputError for what no widget would hold.
    """

    seed: int
    steps: int
    cfg: float
    shift: float
    sampler_name: str
    scheduler: str
    denoise: float = 1.0

    def __post_init__(self) -> None:
        limits = {"seed": SEED, "steps": STEPS, "cfg": CFG, "shift": SHIFT, "denoise": DENOISE}
        for name, (least, most) in limits.items():
            object.__setattr__(self, name, wired_number(name, getattr(self, name), least, most))
        wired_choice("sampler_name", self.sampler_name, sampler_names())
        wired_choice("scheduler", self.scheduler, schedules())


@dataclass(frozen=True)
class SamplerInputs:
    """The first four outputs of Source and Reference: they belong together."""

    model: Any
    positive: Any
    negative: Any
    latent: dict[str, Any]
