"""Several GPUs, started by torchrun: a list of clips shared between processes, or one clip's tokens split over them.

Sharing needs no communication: each process takes every n-th job (`instructx edit --jobs` under torchrun does).
Splitting (`instructx edit --split`) is diffusers' context parallelism for Wan (Ulysses): each process holds a part of
the sequence between the first block and the head, and attention exchanges heads for tokens. With reference tokens the
length seldom divides; parts may be unequal, so nothing is padded: pad tokens would be attended to.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.nn import functional

from ..errors import InputError
from .memory import MemoryPlan

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Place:
    """This process among those that torchrun started: number, how many, number on this machine (its GPU)."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0


def place_of(environment: Mapping[str, str] = os.environ) -> Place:
    """From torchrun's RANK, WORLD_SIZE and LOCAL_RANK; the only process where they are not set.

    Raises InputError when they contradict each other.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if "WORLD_SIZE" not in environment:
        return Place()
    try:
        rank, world, local_rank = (int(environment[name]) for name in names)
    except (KeyError, ValueError):
        raise InputError(f"{', '.join(names)} must be whole numbers together; start with torchrun") from None
    if not 0 <= rank < world or local_rank < 0:
        raise InputError(f"RANK {rank} of WORLD_SIZE {world} cannot be; start with torchrun")
    return Place(rank, world, local_rank)


def share(items: Sequence[Item], place: Place) -> list[Item]:
    """Every world-th item from the rank-th on: together all of them, each once; long and short ones mixed."""
    return list(items[place.rank :: place.world])


def check_several() -> Place:
    """This process's place among several. Raises InputError where it is the only one."""
    place = place_of()
    if place.world == 1:
        raise InputError("one clip cannot be split over 1 process; start with torchrun --nproc_per_node 2 or more")
    return place


@contextlib.contextmanager
def one_clip(model: WanTransformer3DModel, plan: MemoryPlan, device: torch.device, output: Path) -> Iterator[Path]:
    """In the block the processes of torchrun make one edit together; all must ask for the same one.

    model: the DiT. plan: of the memory of this process. Gives the file to write: `output` for the first process, for
    each of the others one that is thrown away: all of them have the whole result.
    Raises InputError without torchrun, and as split_clip.
    """
    place = check_several()
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "cpu:gloo")
    try:
        with split_clip(model, device), tempfile.TemporaryDirectory() as folder:
            plan.offloaded = True  # no second try of the steps when memory ends: the others would not take part
            yield output if place.rank == 0 else Path(folder) / output.name
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def split_clip(model: WanTransformer3DModel, device: torch.device) -> Iterator[None]:
    """In the block the sequence of a Wan DiT is split over all processes of the default group. Inference only.

    The group must be initialised with a backend for the CPU too, as "cpu:gloo,cuda:nccl": lengths are exchanged there.
    Every process then calls the pipeline with the same inputs and the same seed, and gets the whole result. device: of
    this process. Raises InputError where this diffusers or the attention in use cannot do it.
    """
    try:
        from diffusers import ContextParallelConfig
        from diffusers.hooks.context_parallel import apply_context_parallel, remove_context_parallel
        from diffusers.models._modeling_parallel import ParallelConfig

        context = ContextParallelConfig(ulysses_degree=dist.get_world_size(), ulysses_anything=True)
    except (ImportError, TypeError):
        raise InputError("this diffusers cannot split sequences of any length; update it to 0.37 or newer") from None
    mesh = init_device_mesh(device.type, context.mesh_shape, mesh_dim_names=context.mesh_dim_names)
    config = ParallelConfig(context_parallel_config=context)
    # Not model.enable_parallelism: it counts accelerators and divides by their number, which is 0 on a CPU.
    config.setup(dist.get_rank(), dist.get_world_size(), device, mesh=mesh)
    attentions: list[Any] = [block.attn1 for block in model.blocks]  # torch types them as Tensor or Module
    processors = [attn.processor for attn in attentions]
    for processor in processors:
        if not hasattr(processor, "_parallel_config"):
            name = type(processor).__name__
            raise InputError(f"the attention processor {name} cannot split a clip; call use_attention('off') before")
    # Without the root's entry, which is for one timestep a token, and with a gathering of our own: theirs hands parts
    # of unequal length to all_gather, which gloo refuses.
    plan = {name: model._cp_plan[name] for name in ("rope", "blocks.0")}
    gathering = model.proj_out.register_forward_hook(lambda _module, _inputs, part_BLP: _gather(part_BLP))
    try:
        for processor in processors:
            processor._parallel_config = config
        apply_context_parallel(model, context, plan)
        yield
    finally:
        # A model that holds on to the group keeps gloo's threads beyond the end of the interpreter, which may abort.
        gathering.remove()
        remove_context_parallel(model, plan)
        for processor in processors:
            processor._parallel_config = None
        del mesh, config, context
        gc.collect()


def _gather(part_BLP: Tensor) -> Tensor:
    """The whole sequence from the parts of all processes, in their order; lengths may differ."""
    world, length = dist.get_world_size(), torch.tensor([part_BLP.shape[1]], device=part_BLP.device)
    lengths = [torch.empty_like(length) for _ in range(world)]
    dist.all_gather(lengths, length)
    counts = [int(value) for value in lengths]
    padded_BLP = functional.pad(part_BLP, (0, 0, 0, max(counts) - part_BLP.shape[1])).contiguous()
    parts = [torch.empty_like(padded_BLP) for _ in range(world)]
    dist.all_gather(parts, padded_BLP)
    return torch.cat([part[:, :count] for part, count in zip(parts, counts, strict=True)], dim=1)


def share_folder(folder: Path) -> None:
    """Gives all processes of the default group what lies in the first one's folder; each names its own folder.

    What the others had there is gone, and where the first one has none, nobody has one. Folders in it are left out.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else None
    names = json.loads(_share_bytes(json.dumps(names).encode()))
    first = dist.get_rank() == 0
    if not first:
        shutil.rmtree(folder, ignore_errors=True)
        if names is not None:
            folder.mkdir()
    for name in names or ():
        data = _share_bytes((folder / name).read_bytes() if first else b"")
        if not first:
            (folder / name).write_bytes(data)


def _share_bytes(data: bytes) -> bytes:
    """The first process's, in all."""
    length = torch.tensor([len(data)])
    dist.broadcast(length, 0)
    sent = torch.zeros(int(length), dtype=torch.uint8)
    if data and dist.get_rank() == 0:
        sent.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    dist.broadcast(sent, 0)
    return bytes(sent.numpy())
