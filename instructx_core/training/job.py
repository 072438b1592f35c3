"""TrainingJob: what the trainer asks of whatever is trained, and the global batch of a step.

Between trainer.py, which knows the loop, and jobs/, whose files know models, losses and data; runs/run.py makes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from ..config import InstructXConfig
from ..data.bucket import Bucket
from .machine import Machine


@dataclass(frozen=True, slots=True)
class GlobalBatch:
    """What all ranks train on in one step: samples of one bucket, so that shapes agree."""

    bucket: Bucket
    size: int  # samples, over all processes and accumulation steps
    micro: int  # samples of one forward pass
    tokens: int = 0  # that the DiT reads in the step; 0: of a job without one


class TrainingJob(Protocol):
    """What a recipe trains. All tensors of a step come from (recipe.seed, step, positions)."""

    needs: ClassVar[type]  # the protocol that its data source must satisfy
    trainable: dict[str, nn.Parameter]

    def __init__(
        self, recipe: Any, config: InstructXConfig, source: Any, output: Path, machine: Machine = ...
    ) -> None: ...

    def global_batch(self, step: int) -> GlobalBatch: ...

    def loss(self, step: int, batch: GlobalBatch, positions: range) -> Tensor:
        """Scalar: mean over `positions` of the step's global batch."""
        ...

    def validate(self) -> dict[str, float]: ...

    def picture(self, path: Path | None) -> None:
        """Writes a PNG of what the model makes now; None: computes it for the other processes of a sharded model."""
        ...

    def finish(self) -> None:
        """Last change of the (averaged) weights before they are exported."""
        ...
