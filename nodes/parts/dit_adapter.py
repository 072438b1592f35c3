"""What the DiT's side of a graph needs of an adapter: it travels in the CONDITIONING, from Connector to the sampler.

Load Encoder and Load Checkpoint make one of the adapter they read; Source and Reference patches the MODEL with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...instructx_core.config import EMBEDDERS
from ...instructx_core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from ...instructx_core.config import DenoiserConfig
    from ...instructx_core.formats.layouts.adapter import Adapter


@dataclass(frozen=True)
class DitAdapter:
    """Switches and own embedders of one checkpoint. Two are equal when they come from one load.

    source_embedder, reference_embedder: {"weight", "bias"} on the CPU, or None where the DiT's own patch embedding
    serves (config "tied"). Raises InputError when the config asks for an own one that is not there.
    """

    name: str
    denoiser: DenoiserConfig
    source_embedder: Mapping[str, Tensor] | None = field(default=None, compare=False, repr=False)
    reference_embedder: Mapping[str, Tensor] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in EMBEDDERS:
            if getattr(self.denoiser, name) == "own" and getattr(self, name) is None:
                raise InputError(
                    f"the adapter {self.name} has no {name}, which its config asks for; use the whole adapter file of "
                    "this checkpoint"
                )


def adapter_of_file(stored: Adapter) -> DitAdapter:
    """The part for the DiT of an adapter that was read.

    Raises InputError when an own embedder is missing, and for a design that is only for the study.
    """
    name, kind = stored.config.name, stored.config.design.kind
    if kind != "queries":
        raise InputError(
            f"the adapter {name} is of the design {kind}, which the paper only compares with its own and no node runs; "
            "use an adapter of InstructX, or edit with it by the command `instructx edit --model FOLDER`"
        )
    embedders = {}
    for name in EMBEDDERS:
        parts = {part: stored.tensors.get(f"{name}.{part}") for part in ("weight", "bias")}
        whole = all(tensor is not None for tensor in parts.values())
        embedders[name] = parts if whole and getattr(stored.config.denoiser, name) == "own" else None
    return DitAdapter(stored.config.name, stored.config.denoiser, **embedders)
