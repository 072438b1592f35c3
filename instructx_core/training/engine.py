"""How a run is spread over processes and memory: the options that change where its tensors are, not what it learns.

Between the command line and machine.py. sharded: FSDP2 (sharding.py), each process holds its rows of weights, gradients
and optimiser; otherwise every process holds everything. offload: these rows wait in the host's memory. recompute:
activations are computed again in the backward pass instead of being kept. low_moments: of AdamW, in 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from .recipes.base import Recipe


@dataclass(frozen=True, slots=True)
class Engine:
    """Raises InputError for offload without sharding."""

    sharded: bool = False
    offload: bool = False
    recompute: bool = False
    low_moments: bool = False

    def __post_init__(self) -> None:
        if self.offload and not self.sharded:
            raise InputError("offload moves the shards of a sharded run to the host; leave it out, or shard the run")


def check_batches(recipe: Recipe, world: int) -> None:
    """Raises InputError unless each process gets as many samples of every global batch, as a sharded model needs it."""
    batches = {"image_batch": recipe.image_batch} if recipe.video_probability < 1 else {}
    if recipe.video_probability > 0:
        batches["video_batch"] = recipe.video_batch
    for name, batch in batches.items():
        if batch % world:
            usable = [count for count in range(1, batch + 1) if batch % count == 0]
            nearest = max(count for count in usable if count <= world)
            raise InputError(
                f"{name} is {batch} over {world} processes; a sharded run gives each as many samples: start "
                f"{nearest} processes, or a recipe whose batch divides by {world}"
            )
