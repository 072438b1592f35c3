"""Data parallel over torchrun processes: every rank takes a slice of the global batch, gradients are summed.

Micro-batch losses are already divided by the global batch, so a sum over ranks is the gradient of one process that
saw everything. Of a sharded model FSDP2 sums them (sharding.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

PATIENCE = timedelta(hours=2)  # processes that encode samples end at different times


def setup() -> tuple[int, int]:
    """(rank, world size) from torchrun's environment; starts gloo or NCCL when there is more than one process."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
    return rank(), world


def rank() -> int:
    """Of this process; 0 writes the files."""
    return int(os.environ.get("RANK", "0"))


def shard(count: int, rank: int, world: int, micro: int) -> list[range]:
    """This rank's positions of a global batch of `count`, in micro-batches of at most `micro`."""
    start, stop = count * rank // world, count * (rank + 1) // world
    return [range(i, min(i + micro, stop)) for i in range(start, stop, micro)]


def sum_gradients(parameters: Iterable[torch.nn.Parameter], world: int) -> None:
    """In place, as one message. Which parameters have a gradient is the same on all ranks (same modality)."""
    if world == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = _flatten_dense_tensors(gradients)
    dist.all_reduce(flat)
    for gradient, summed in zip(gradients, _unflatten_dense_tensors(flat, gradients), strict=True):
        gradient.copy_(summed)


def sum_scalar(value: Tensor, world: int) -> Tensor:
    if world > 1:
        dist.all_reduce(value)
    return value


def wait() -> None:
    """Until all processes are here."""
    if dist.is_initialized():
        dist.barrier()


def shutdown() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
