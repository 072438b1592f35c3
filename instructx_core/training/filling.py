"""Modules without values -> modules with values, where every process reads only the rows that it holds.

Between what knows where a tensor comes from (base.py) and what shards modules over processes (sharding.py), which
splits the first axis as torch.chunk does. A tensor that is whole is all of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ..errors import InputError, some
from ..formats.containers.opening import open_source
from ..formats.containers.strict import is_finite
from ..formats.containers.tensor_source import TORCH_DTYPES, TensorSource
from ..formats.containers.writing import Pending, write_pending

Rows = Callable[[int, int], Tensor]  # [start, stop) of the first axis


def local_rows(tensor: Tensor) -> tuple[int, int]:
    """The rows of the whole tensor that this process holds."""
    if not isinstance(tensor, DTensor):
        return 0, tensor.shape[0]
    mesh, rows = tensor.device_mesh, tensor.shape[0]
    share = -(-rows // mesh.size())
    start = min(rows, share * mesh.get_local_rank())
    return start, min(rows, start + share)


def distributed_like(tensor: Tensor, local: Tensor) -> Tensor:
    """`local` as this process's part of a tensor that is distributed as `tensor` is."""
    if not isinstance(tensor, DTensor):
        return local
    return DTensor.from_local(
        local, tensor.device_mesh, tensor.placements, run_check=False, shape=tensor.shape, stride=tensor.stride()
    )


def local_part(tensor: Tensor) -> Tensor:
    """What this process holds of it, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def own_rows(tensor: Tensor, values: Tensor) -> Tensor:
    """The rows of the whole `values` that this process holds of `tensor`."""
    return values[slice(*local_rows(tensor))] if isinstance(tensor, DTensor) else values


def whole_tensor(tensor: Tensor) -> Tensor:
    """Gathered where it is distributed, by all processes together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def write_gathered(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str], writes: bool) -> None:
    """One safetensors file in the memory of its largest tensor. All processes call it, one of them `writes`."""

    def gather(name: str) -> Tensor:
        return whole_tensor(tensors[name].detach()).to("cpu").contiguous()

    if not writes:
        for name in tensors:
            gather(name)
        return
    kinds = {dtype: kind for kind, dtype in TORCH_DTYPES.items()}
    pending = [
        Pending(name, kinds[tensor.dtype], tuple(tensor.shape), partial(gather, name))
        for name, tensor in tensors.items()
    ]
    write_pending(path, pending, metadata)


def fill_empty(root: nn.Module, rows: Mapping[str, Rows], device: torch.device) -> None:
    """Gives every parameter of `root` that has no values yet its rows, in the parameter's own number format.

    Raises InputError when `rows` lacks one.
    """
    empty = {name: parameter for name, parameter in root.named_parameters() if parameter.is_meta}
    missing = [name for name in empty if name not in rows]
    if missing:
        raise InputError(f"{len(missing)} tensors of the model come from no file ({some(missing)}); other files?")
    state = {}
    for name, parameter in empty.items():
        start, stop = local_rows(parameter)
        values = rows[name](start, stop).to(device, parameter.dtype)
        state[name] = distributed_like(parameter, values)
    root.load_state_dict(state, strict=False, assign=True)
    for module in root.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(device)


def finite_rows(source: TensorSource, key: str, shape: tuple[int, ...]) -> Rows:
    """Rows of a tensor in a file, which may have flattened it (GGUF); checked as they are read."""

    def read(start: int, stop: int) -> Tensor:
        if source.shape(key) == shape:
            tensor = source.rows(key, start, stop)
        else:
            tensor = source.get(key).reshape(shape)[start:stop].clone()
        if not is_finite(tensor):
            raise InputError(f"{source.path.name}: {key} holds NaN or infinity; the file is broken, download it again")
        return tensor

    return read


def open_final_weights(path: Path, command: str) -> TensorSource:
    """The final weights of a run before. Raises InputError when they are not there. command: what trains it."""
    if not path.is_file():
        raise InputError(f"{path} is missing; run `{command}` first")
    return open_source(path)


def final_rows(source: TensorSource, root: nn.Module) -> dict[str, Rows]:
    """The rows of every tensor that a run before has trained.

    Raises InputError for one that `root` doesn't have, or has in another shape: a run of another model.
    """
    shapes = {name: tuple(parameter.shape) for name, parameter in root.named_parameters()}
    unknown = sorted(set(source.keys()) - set(shapes))
    if unknown:
        raise InputError(
            f"{source.path} holds {len(unknown)} tensors that the model does not have ({some(unknown)}); it is a run "
            "of another preset or source embedder, use another --output"
        )
    for name in source.keys():
        if source.shape(name) != shapes[name]:
            raise InputError(
                f"{source.path}: {name} is {source.shape(name)}, the model has {shapes[name]}; it is a run of another "
                "preset, use another --output"
            )
    return {name: finite_rows(source, name, shapes[name]) for name in source.keys()}
