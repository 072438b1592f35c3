"""What a call of the pipeline may be given beside pictures and instructions: type and range of every argument.

Before anything is encoded. Pictures and instructions are checked where they are read (batch.py), what depends on the
source's shape where it is known (noise.py, pinning.py). A bool is no number here, NaN and infinity are none.
Legend: B batch, C channels, T latent frames, H W cells, L tokens, D width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real

import torch
from torch import Generator, Tensor

from ..errors import InputError

OUTPUT_TYPES = ("np", "pt", "pil", "latent")


@dataclass(frozen=True, slots=True)
class Rule:
    """text: what is allowed, after "give". optional: None stands for a default."""

    allows: Callable[[object], bool]
    text: str
    optional: bool = True


def _whole(value: object, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _number(value: object) -> bool:
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int that no float holds
        return False


def _tensor(value: object, dimensions: int) -> bool:
    if not isinstance(value, Tensor) or value.ndim != dimensions:
        return False
    return value.is_floating_point() and value.numel() > 0 and bool(torch.isfinite(value).all())


def _generators(value: object) -> bool:
    each = value if isinstance(value, list | tuple) else [value]
    return all(isinstance(generator, Generator) for generator in each)


def _keywords(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def _names(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)


_CONTEXT = Rule(lambda value: _tensor(value, 3), "a tensor (B, L, D) of finite floats, as encode_instruction gives it")
_SIZE = Rule(lambda value: _whole(value, 1), "the source's size in pixels, a whole number, or leave it out")

RULES = {
    "num_inference_steps": Rule(lambda value: _whole(value, 1), "a whole number of steps, at least 1, e.g. 50"),
    "guidance_scale": Rule(_number, "a finite number, 1 for no guidance, e.g. 3.0"),
    "generator": Rule(_generators, "a torch.Generator, or a list with one for each edit"),
    "height": _SIZE,
    "width": _SIZE,
    "fps": Rule(lambda value: _number(value) and value > 0, "the clip's frame rate in Hz, positive, e.g. 16"),  # type: ignore[operator]
    "sigma_min": Rule(lambda value: _number(value) and 0 <= value < 1, "a number in [0, 1), e.g. 0"),  # type: ignore[operator]
    "latents": Rule(lambda value: _tensor(value, 5), "noise as a tensor (B, C, T, H, W) of finite floats"),
    "pinned": Rule(lambda value: _whole(value, 0), "a whole number of latent frames, 0 for none", optional=False),
    "context": _CONTEXT,
    "negative_context": _CONTEXT,
    "output_type": Rule(
        lambda value: isinstance(value, str) and value in OUTPUT_TYPES,
        f"one of {', '.join(OUTPUT_TYPES)}",
        optional=False,
    ),
    "return_dict": Rule(lambda value: isinstance(value, bool), "True or False", optional=False),
    "attention_kwargs": Rule(_keywords, 'a dict of keywords, e.g. {"scale": 0.5}'),
    "callback_on_step_end": Rule(callable, "a function of (pipe, step, timestep, tensors)"),
    "callback_on_step_end_tensor_inputs": Rule(_names, 'a list of names, e.g. ["latents"]', optional=False),
}


def check_argument(name: str, value: object) -> None:
    """Raises InputError with the value, the rule and the remedy, unless the rule of this name allows the value."""
    rule = RULES[name]
    if (value is None and rule.optional) or rule.allows(value):
        return
    raise InputError(f"{name} is {_described(value)}; give {rule.text}")


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {str(value.dtype)[6:]}" + _flaw(value)
    text = " ".join(ascii(value).split())
    return f"{text if len(text) <= 60 else f'{text[:57]}...'}, of type {type(value).__name__}"


def _flaw(value: Tensor) -> str:
    return "" if bool(torch.isfinite(value).all()) else " with values that are not finite"


def check_arguments(arguments: Mapping[str, object]) -> None:
    """Every one of `arguments` that has a rule. Raises InputError for the first that its rule does not allow."""
    for name in RULES:
        if name in arguments:
            check_argument(name, arguments[name])
