"""Caches of diffusers that leave out blocks in steps that change little: one argument away, always in a clean state.

Around the steps (pipeline.denoise). first-block: when the first block changes its tokens as before, the others' change
is taken over. mag: as many steps as measured magnitudes allow; the first edit with a number of steps measures them and
runs in full. taylorseer: every few steps, in between a Taylor series. All change the picture (docs/speed.md).
Legend: B batch, L tokens, D width.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import InputError

if TYPE_CHECKING:
    from diffusers import FirstBlockCacheConfig, MagCacheConfig, TaylorSeerCacheConfig, WanTransformer3DModel

    CacheConfig = FirstBlockCacheConfig | MagCacheConfig | TaylorSeerCacheConfig

CACHES = ("first-block", "mag", "taylorseer")
# How much a step may differ and still be skipped. Defaults of diffusers; intervals for taylorseer.
THRESHOLDS = {"first-block": 0.05, "mag": 0.06, "taylorseer": 2.0}


@dataclass
class StepCache:
    """One cache for one pipeline. threshold: see THRESHOLDS. magnitudes: ratios by number of steps, for "mag"."""

    kind: str
    threshold: float
    magnitudes: dict[int, list[float]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> StepCache:
        """'first-block' or 'first-block:0.1'. Raises InputError for an unknown kind or a threshold out of its range."""
        kind, _, number = text.partition(":")
        if kind not in CACHES:
            raise InputError(f"cache {kind!r} is unknown; use one of {', '.join(CACHES)}, e.g. first-block:0.1")
        try:
            threshold = float(number) if number else THRESHOLDS[kind]
        except ValueError:
            raise InputError(f"cache threshold {number!r} is no number; write e.g. {kind}:{THRESHOLDS[kind]}") from None
        if not threshold > 0 or (kind == "taylorseer" and (threshold < 2 or threshold != int(threshold))):
            rule = "a whole number of steps, 2 or more" if kind == "taylorseer" else "positive"
            raise InputError(f"cache threshold of {kind} is {threshold:g}; it must be {rule}")
        return cls(kind, threshold)

    def check_batch(self, count: int, steps: int) -> None:
        """Raises InputError where a batch of `count` edits would decide together, and differ from each edit alone."""
        if count == 1 or self.kind == "taylorseer":  # which steps are left out depends on their number only
            return
        if self.kind == "first-block":
            raise InputError(
                f"the first-block cache decides for a whole batch at once, so {count} edits together would not be what "
                "they are alone; edit one at a time, use taylorseer, or leave the cache out"
            )
        if steps not in self.magnitudes:
            raise InputError(
                f"the mag cache measures the first edit of {steps} steps, and a batch of {count} would be measured "
                "together; run one edit alone first"
            )

    def config(self, steps: int, dtype: torch.dtype) -> CacheConfig:
        """The config of diffusers for a run of `steps`. Raises InputError where this diffusers has no such cache."""
        import diffusers

        names = {
            "first-block": "FirstBlockCacheConfig",
            "mag": "MagCacheConfig",
            "taylorseer": "TaylorSeerCacheConfig",
        }
        made = getattr(diffusers, names[self.kind], None)
        if made is None:
            raise InputError(f"diffusers {diffusers.__version__} has no {names[self.kind]}; use first-block")
        if self.kind == "first-block":
            return made(threshold=self.threshold)
        if self.kind == "mag":
            return made(threshold=self.threshold, num_inference_steps=steps, mag_ratios=self.magnitudes[steps])
        # Its defaults find no module of a Wan DiT; the lite mode does: blocks are skipped, the head is predicted.
        return made(cache_interval=int(self.threshold), use_lite_mode=True, taylor_factors_dtype=dtype)

    @contextmanager
    def around(self, model: WanTransformer3DModel, steps: int, branches: int = 1) -> Iterator[None]:
        """One denoising loop of `steps` steps with the cache on, empty at the start and gone at the end.

        branches: forwards a step, 2 with guidance. A loop that was cut short measures nothing.
        """
        if self.kind == "mag" and steps not in self.magnitudes:
            with record_magnitudes(model, branches) as ratios:
                yield
            if len(ratios) == steps:
                self.magnitudes[steps] = ratios
            return
        model.enable_cache(self.config(steps, model.dtype))
        try:
            yield
        finally:
            model.disable_cache()


@contextmanager
def record_magnitudes(model: WanTransformer3DModel, branches: int = 1) -> Iterator[list[float]]:
    """What MagCache needs of a model: by how much all blocks together change the tokens, each step over the one before.

    mean over tokens of |residual_t| / |residual_(t-1)|, 1 for the first step. With guidance, of the first branch.
    """
    ratios: list[float] = []
    start: list[Tensor] = []
    norms: dict[int, Tensor] = {}
    calls = 0

    def enter(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        start[:] = args[:1]

    def leave(_module: nn.Module, _args: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal calls
        before_BLD = start.pop()
        if calls % branches == 0:
            norm_BL = (output - before_BLD).float().norm(dim=-1)
            ratios.append(float((norm_BL / (norms[0] + 1e-8)).mean()) if norms else 1.0)
            norms[0] = norm_BL
        calls += 1

    handles = [model.blocks[0].register_forward_pre_hook(enter), model.blocks[-1].register_forward_hook(leave)]
    try:
        yield ratios
    finally:
        for handle in handles:
            handle.remove()


@functools.cache
def _knows_steps(model: type) -> bool:
    return len(inspect.signature(model.cache_context).parameters) > 2


def branch_context(model: WanTransformer3DModel, branch: str, **where: Any) -> AbstractContextManager[None]:
    """diffusers' cache_context: which branch of guidance the forward in the block is, "cond" or "uncond".

    where: step_index, sigma and num_inference_steps, which older releases do not take.
    """
    known = _knows_steps(type(getattr(model, "_orig_mod", model)))
    return model.cache_context(branch, **where) if known else model.cache_context(branch)
