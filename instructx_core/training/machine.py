"""The machine of a run: the device of its models, and the processes that draw its samples. Neither is in a recipe.

Between the command line and the jobs. Everything that is drawn comes from generators on the CPU, so that a run sees the
same samples and noise on any device.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..data.cache import Cache
from ..data.raw_sample import Renderer
from ..data.source import EditSource
from ..errors import InputError
from ..formats.layouts.files import BaseFiles
from .engine import Engine

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Watch:
    """What is shown of a run. peak: FLOP a second that the card can do at most; None: not known, and no share is said.
    tensorboard: also as event files."""

    peak: float | None = None
    tensorboard: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """device: of the models. renderer: draws the samples, on CPUs. engine: how tensors are spread. base: public files
    that a new model starts from; None: those that the runs before in the same folder started from. watch: what is
    shown of a run."""

    device: torch.device = CPU
    renderer: Renderer = field(default_factory=Renderer)
    engine: Engine = field(default_factory=Engine)
    base: BaseFiles | None = None
    watch: Watch = field(default_factory=Watch)

    @property
    def weights_device(self) -> torch.device:
        """Where the rows of a sharded model wait."""
        return CPU if self.engine.offload else self.device

    def cache(self, output: Path, source: EditSource) -> Cache:
        return Cache(output / "pools", source, self.renderer)


def find_machine(device: str | None, workers: int) -> Machine:
    """By the words of the command line. Raises InputError for a device that is missing, or no worker."""
    return Machine(find_device(device), Renderer(workers))


def find_device(name: str | None) -> torch.device:
    """None: a GPU where there is one; of several processes, each its own. Raises InputError for one that is missing."""
    if name not in (None, "cpu", "cuda"):
        raise InputError(f"device is {name!r}; use cpu or cuda")
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise InputError("device is cuda, and torch finds no GPU; use cpu, or install a build of torch for your GPU")
    if name == "cpu" or not has_gpu:
        return CPU
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def peak_memory(device: str) -> str:
    """The most that this process has had, in words."""
    gib = 1 << 30
    text = f"peak memory of a process: {_host_peak() / gib:.1f} GiB of the host's"
    return text + (f", {torch.cuda.max_memory_allocated() / gib:.1f} GiB of the card's" if device == "cuda" else "")


def _host_peak() -> int:
    import resource  # not on Windows, where no run is sharded

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
