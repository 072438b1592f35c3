"""Checkpoints that are either whole or not there: written into a hidden folder, synced, then renamed.

A checkpoint `step-000123/` holds model.safetensors (trained tensors only), ema.safetensors, optimizer.safetensors and
state.json (step, recipe). The previous one is deleted only after the new one has its final name, so a full disk or a
kill at any moment costs at most the steps since the last good one. A folder of another recipe is refused: a new stage
starts by warm start, never by resuming (training notes 1.7, item 12).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import InputError
from .filling import distributed_like, own_rows
from .optimizers import plain_moments

KEEP = 2  # newest checkpoints kept
# In a recipe: don't change what a step does; micro-batches move sums within rounding.
RESUMABLE = {
    "num_steps",
    "patience",
    "save_every",
    "sample_every",
    "validate_every",
    "micro_image_batch",
    "micro_video_batch",
}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    step: int
    model: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimizer: dict[str, Tensor]


def sync_path(path: Path) -> None:
    """Waits until what was written there is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def step_folders(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / "state.json").is_file())


def save_state(folder: Path, checkpoint: Checkpoint, recipe: dict[str, Any]) -> Path:
    """Raises InputError when the disk is full (or any other write error); the older checkpoints are untouched then."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{checkpoint.step:07d}"
    partial = folder / f".partial-{checkpoint.step:07d}-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        for name in ("model", "ema", "optimizer"):
            path = partial / f"{name}.safetensors"
            save_file({k: v.contiguous() for k, v in getattr(checkpoint, name).items()}, path)
            sync_path(path)
        (partial / "state.json").write_text(json.dumps({"step": checkpoint.step, "recipe": recipe}, indent=1))
        sync_path(partial / "state.json")
        sync_path(partial)
        if final.exists():  # the same step saved again (interrupt right after a regular save)
            shutil.rmtree(final)
        partial.rename(final)
        sync_path(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise InputError(
            f"checkpoint of step {checkpoint.step} could not be written to {folder}: {error}; "
            "the last good checkpoint is kept: free disk space and run the same command again"
        ) from error
    remove_older(folder)
    return final


def remove_older(folder: Path) -> None:
    """Removes all checkpoints but the newest."""
    for old in step_folders(folder)[:-KEEP]:
        shutil.rmtree(old)


def find_latest(folder: Path, recipe: dict[str, Any]) -> tuple[Path, int] | None:
    """Folder and step of the newest whole checkpoint of this recipe, None when there is none.

    Raises InputError when it belongs to another recipe.
    """
    found = step_folders(folder)
    if not found:
        return None
    path = found[-1]
    state = json.loads((path / "state.json").read_text())
    different = sorted(k for k in set(recipe) | set(state["recipe"]) if recipe.get(k) != state["recipe"].get(k))
    resumable = RESUMABLE | {key for key in different if key.endswith("_validation")}
    if set(different) - resumable:
        raise InputError(f"{folder} holds a run with another {', '.join(different)}; use another --output")
    return path, state["step"]


def load_latest(folder: Path, recipe: dict[str, Any]) -> Checkpoint | None:
    """The newest whole checkpoint of this recipe as whole tensors, None when there is none.

    Raises InputError when it belongs to another recipe or cannot be read.
    """
    found = find_latest(folder, recipe)
    return None if found is None else load_state(*found)


def load_state(path: Path, step: int) -> Checkpoint:
    """Raises InputError when it cannot be read."""
    try:
        parts = {name: load_file(path / f"{name}.safetensors") for name in ("model", "ema", "optimizer")}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({error}); delete it to resume from the one before") from error
    return Checkpoint(step=step, **parts)


def optimizer_tensors(optimizers: Sequence[torch.optim.Optimizer], names: dict[nn.Parameter, str]) -> dict[str, Tensor]:
    """State of the optimisers by parameter name: `<name>|exp_avg` and so on."""
    tensors = {}
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            for key, value in state.items():
                plain = plain_moments(parameter, torch.as_tensor(value))
                tensors[f"{names[parameter]}|{key}"] = plain.clone()
    return tensors


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: dict[nn.Parameter, str], tensors: dict[str, Tensor]
) -> None:
    by_name: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        name, _, field = key.rpartition("|")
        by_name.setdefault(name, {})[field] = value
    stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for parameter, name in names.items():
        if name in by_name and id(parameter) in stepped:
            # AdamW counts its steps on the CPU, wherever the parameter is.
            optimizer.state[parameter] = {
                key: value.clone()
                if key == "step"
                else distributed_like(parameter, own_rows(parameter, value).to(parameter.device, copy=True))
                for key, value in by_name[name].items()
            }
