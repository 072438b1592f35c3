"""The model of an edit stage: whole from the runs before it (parts.py), or from public files, shared out (base.py).

Between a job, which encodes its samples first, and where weights come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

from ..config import InstructXConfig
from ..precision import dtype_of
from .base import Base, open_base
from .machine import Machine
from .parts import Parts, load_parts
from .recipes.base import FROM_BASE, Recipe
from .sharding import recompute_activations, shard_modules
from .trainable import select

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan


class StageModel(Protocol):
    """parts: its VAE and vision tower have their weights, where needed; the rest when `complete` was called."""

    @property
    def parts(self) -> Parts: ...

    def complete(self) -> dict[str, nn.Parameter]:
        """The trained tensors; all others are frozen."""
        ...

    def decoder(self) -> AutoencoderKLWan | None:
        """The VAE, to look at results; None where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Whole:
    """On the device from the start."""

    parts: Parts
    recipe: Recipe
    recompute: bool

    def complete(self) -> dict[str, nn.Parameter]:
        if self.recompute:
            recompute_activations(self.parts)
        return select(self.recipe.trained_groups(), self.parts.encoder, self.parts.denoiser)

    def decoder(self) -> AutoencoderKLWan | None:
        return self.parts.vae


@dataclass(frozen=True, slots=True)
class SharedOut:
    """From public files: each process holds its rows after `complete`."""

    base: Base
    machine: Machine

    @property
    def parts(self) -> Parts:
        return self.base.parts

    def complete(self) -> dict[str, nn.Parameter]:
        """Raises InputError for files that do not fit."""
        machine, parts = self.machine, self.base.parts
        dtype = dtype_of(self.base.recipe.precision, machine.device)
        shard_modules(parts, machine.engine, machine.device, dtype is torch.bfloat16)
        trained = self.base.complete(machine.weights_device)
        if machine.engine.recompute:
            recompute_activations(parts)
        return trained

    def decoder(self) -> AutoencoderKLWan | None:
        return self.base.decoder(self.machine.device)


def open_stage_model(
    recipe: Recipe, config: InstructXConfig, output: Path, machine: Machine, encode: bool = True
) -> StageModel:
    """encode: whether samples are to be encoded with it. Raises InputError when what it starts from is missing or of
    another model."""
    if FROM_BASE in recipe.requires:
        assert machine.base is not None
        return SharedOut(open_base(recipe, config, output, machine.base, machine.device, encode), machine)
    parts = load_parts(recipe.requires, config, output, recipe.seed)
    parts.root.to(machine.device)
    return Whole(parts, recipe, machine.engine.recompute)
