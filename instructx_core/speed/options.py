"""What makes a whole edit faster or smaller, one argument each, as a mixin of the pipeline. docs/speed.md has numbers.

enable_cache: blocks left out in steps that change little (step_cache.py). enable_reuse: encoder and VAE results kept
(reuse.py). place: offload and fp8 storage, by diffusers' own hooks. Constants of the steps are hoisted without asking
(constants.py).
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers.hooks import apply_group_offloading

from ..errors import InputError
from .constants import constants_of
from .reuse import ENTRIES, Reuse
from .step_cache import StepCache

OFFLOAD = ("none", "model", "group")


class Speed:
    """Options of InstructXPipeline; everything is off at first, but for what changes nothing."""

    step_cache: StepCache | None = None
    reuse: Reuse | None = None

    def enable_cache(self, cache: str | StepCache = "first-block") -> None:
        """Leave out blocks in steps that change little: "first-block", "mag" or "taylorseer", ":threshold" after it.

        Changes the picture a little, a higher threshold more. Raises InputError for an unknown one.
        """
        self.step_cache = StepCache.parse(cache) if isinstance(cache, str) else cache

    def disable_cache(self) -> None:
        self.step_cache = None

    def enable_reuse(self, folder: str | Path | None = None, entries: int = ENTRIES) -> None:
        """Keep what encoder and VAE make of a source, and find it again by content; in `folder` also for later runs.

        LoRA scales of the encoder that are switched without changing weights are not noticed. Raises InputError.
        """
        self.reuse = Reuse(folder, entries)

    def disable_reuse(self) -> None:
        self.reuse = None

    def place(self, offload: str, device: torch.device, fp8: bool = False) -> None:
        """Move a pipeline that was loaded on the CPU to `device`.

        offload: "none"; "model": one part at a time, the encoder leaves before the first step; "group": blocks of the
        DiT stream in one after the other, encoder and VAE by their layers. fp8: the DiT's linear layers are stored in
        float8_e4m3fn and computed in its dtype. Raises InputError for what this machine cannot do.
        """
        pipe: Any = self
        if offload not in OFFLOAD:
            raise InputError(f"offload is {offload!r}; use one of {', '.join(OFFLOAD)}")
        if offload == "model" and device.type == "cpu":
            raise InputError("offload 'model' moves parts between a card and the CPU; leave it out on the CPU")
        if fp8:
            pipe.transformer.enable_layerwise_casting(torch.float8_e4m3fn, pipe.transformer.dtype)
        if offload == "none":
            pipe.to(device)
            return
        pipe.memory.offloaded = True
        if offload == "model":
            pipe.enable_model_cpu_offload(device=device)
            return
        shared = {"onload_device": device, "offload_device": torch.device("cpu"), "use_stream": device.type == "cuda"}
        apply_group_offloading(pipe.transformer, offload_type="block_level", num_blocks_per_group=1, **shared)
        for module in (pipe.encoder, pipe.vae):
            apply_group_offloading(module, offload_type="leaf_level", **shared)


@functools.cache
def _knows_steps(model: type) -> bool:
    return len(inspect.signature(model.cache_context).parameters) > 2


def cache_context(model: Any, branch: str, where: dict[str, Any]) -> contextlib.AbstractContextManager[None]:
    """diffusers' cache_context; older releases take the branch's name only."""
    several = _knows_steps(type(getattr(model, "_orig_mod", model)))
    return model.cache_context(branch, **where) if several else model.cache_context(branch)


def in_steps(denoise: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of pipeline.denoise: constants are hoisted, and the step cache is on, for as long as it runs."""

    @functools.wraps(denoise)
    def run(pipe: Any, latents: Any, tensors: Any, num_inference_steps: int, *args: Any, **kwargs: Any) -> Any:
        branches = 2 if pipe.do_classifier_free_guidance else 1
        cache: StepCache | None = pipe.step_cache
        around = (
            contextlib.nullcontext() if cache is None else cache.around(pipe.transformer, num_inference_steps, branches)
        )
        with torch.no_grad(), constants_of(pipe.transformer), around:
            return denoise(pipe, latents, tensors, num_inference_steps, *args, **kwargs)

    return run
