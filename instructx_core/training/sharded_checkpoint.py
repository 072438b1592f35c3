"""Checkpoints of a sharded run, by DCP: each process writes its rows, any number of processes reads them again.

Beside checkpoint.py, whose rule holds here too: written into a hidden folder, synced, then renamed. A part (model, ema,
optimizer) is a folder of safetensors, one a process, whose headers say which rows they hold; nothing is pickled.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException

from ..errors import InputError
from . import distributed
from .checkpoint import Checkpoint, remove_older, sync_path

PARTS = ("model", "ema", "optimizer")


def _storage() -> tuple[Any, Any]:
    """Writer and reader of safetensors. Raises InputError where torch is too old to have them."""
    try:
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
    except ImportError:
        raise InputError(
            f"torch {torch.__version__} cannot write sharded checkpoints as safetensors; install a newer torch "
            "(2.14 has it), or train without sharding"
        ) from None
    return HuggingFaceStorageWriter, HuggingFaceStorageReader


def save_sharded(folder: Path, state: Checkpoint, recipe: dict[str, Any]) -> Path:
    """By all processes together. Raises InputError when the disk is full; the older checkpoints are untouched then."""
    writer, _ = _storage()
    first = not distributed.rank()
    final, partial = folder / f"step-{state.step:07d}", folder / f".partial-{state.step:07d}"
    if first:
        shutil.rmtree(partial, ignore_errors=True)
        for name in PARTS:
            (partial / name).mkdir(parents=True)
    distributed.wait()
    try:
        for name in PARTS:
            if tensors := getattr(state, name):
                dcp.save(dict(tensors), storage_writer=writer(str(partial / name), save_distributed=True))
        distributed.wait()
        if first:
            files = {name: len(list((partial / name).glob("*.safetensors"))) for name in PARTS}
            whole = {"step": state.step, "recipe": recipe, "files": files}
            (partial / "state.json").write_text(json.dumps(whole, indent=1))
            for path in (partial / "state.json", *(partial / name for name in PARTS), partial):
                sync_path(path)
            if final.exists():
                shutil.rmtree(final)
            partial.rename(final)
            sync_path(folder)
            remove_older(folder)
    except (OSError, SafetensorError, CheckpointException) as error:
        if first:
            shutil.rmtree(partial, ignore_errors=True)
        raise InputError(
            f"checkpoint of step {state.step} could not be written to {folder}: {error}; "
            "the last good checkpoint is kept: free disk space and run the same command again"
        ) from error
    distributed.wait()
    return final


def stored_names(path: Path, part: str) -> dict[str, torch.Size]:
    """Name -> shape of this process's view of a part: what `load` can be asked for.

    Raises InputError when a file of it is missing or cannot be read.
    """
    _, reader = _storage()
    expected = json.loads((path / "state.json").read_text())["files"][part]
    files = sorted((path / part).glob("*.safetensors"))
    if len(files) != expected:
        raise InputError(
            f"{path / part} has {len(files)} of {expected} files; delete {path} to resume from the one before"
        )
    if not files:
        return {}
    try:
        for file in files:
            with safe_open(file, "pt"):
                pass
        metadata = reader(str(path / part)).read_metadata()
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({error}); delete it to resume from the one before") from error
    return {name: entry.size for name, entry in metadata.state_dict_metadata.items()}


def load_part(path: Path, part: str, targets: Mapping[str, Tensor]) -> None:
    """In place: each process reads its rows. Raises InputError for a part that lacks one, or cannot be read."""
    _, reader = _storage()
    stored = stored_names(path, part)
    wrong = [name for name, tensor in targets.items() if stored.get(name) != tensor.shape]
    if wrong:
        raise InputError(
            f"{path} has no {wrong[0]} of shape {tuple(targets[wrong[0]].shape)}; it is a checkpoint of another model"
        )
    if not targets:
        return
    try:
        dcp.load(dict(targets), storage_reader=reader(str(path / part)))
    except (OSError, SafetensorError, CheckpointException) as error:
        raise InputError(f"{path} cannot be read ({error}); delete it to resume from the one before") from error


def is_sharded(path: Path) -> bool:
    """Whether a checkpoint is one of these."""
    return (path / PARTS[0]).is_dir()


def restore_sharded(
    path: Path,
    model: Mapping[str, nn.Parameter],
    average: Mapping[str, Tensor],
    optimizers: Sequence[torch.optim.Optimizer],
) -> None:
    """In place, into tensors that may be distributed over another number of processes, or over none."""
    load_part(path, "model", {name: parameter.detach() for name, parameter in model.items()})
    load_part(path, "ema", average)
    kept = stored_names(path, "optimizer")
    fields: dict[str, dict[str, Tensor]] = {}
    for key, shape in kept.items():
        name, _, field = key.rpartition("|")
        parameter = model[name].detach()
        same = shape == parameter.shape and field != "step"
        fields.setdefault(name, {})[field] = torch.zeros_like(parameter) if same else torch.zeros(shape)
    load_part(
        path, "optimizer", {f"{name}|{field}": value for name, each in fields.items() for field, value in each.items()}
    )
    for optimizer in optimizers:
        stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        for name, parameter in model.items():
            if name in fields and id(parameter) in stepped:
                optimizer.state[parameter] = fields[name]
