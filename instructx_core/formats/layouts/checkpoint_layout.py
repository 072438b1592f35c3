"""What a layout of checkpoints says of itself: how it is recognised, which files it has, how they are opened and read.

Each layout is one CheckpointLayout; checkpoints.py has the table of them, and only it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...config import InstructXConfig, ReferencePosition
from ..containers.writing import write_weights
from .identity import Identity
from .report import LoadReport
from .weight_file import OpenFiles, WeightFile, config_metadata


@dataclass(frozen=True)
class Adapter:
    """tensors: by name in an adapter file of ours. path: where they come from. report: what was read."""

    path: Path
    config: InstructXConfig
    tensors: Mapping[str, Tensor]
    report: LoadReport

    def save(self, path: str | Path, dtype: torch.dtype = torch.bfloat16) -> None:
        """Write an adapter file of ours, with the config in its metadata."""
        write_weights(Path(path), self.tensors, config_metadata(self.config), dtype)


@dataclass(frozen=True, kw_only=True)
class OpenModel:
    """The opened files of a model, as far as they are known. path, layout: of the checkpoint that has the adapter."""

    path: Path
    layout: CheckpointLayout
    opened: OpenFiles
    text_encoder: WeightFile | None
    denoiser: WeightFile | None
    vae: WeightFile | None


def _never(_: object) -> bool:
    return False


def _no_lora(_opened: OpenFiles, _path: Path) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class CheckpointLayout:
    """One layout. kind: what identify calls it. Functions raise InputError for what is incomplete or damaged.

    is_folder, is_file: whether a path, an opened file, is of it. files: part of a model (PARTS) -> where it lies, of
    those that it brings. adapter: read with its config, see read_adapter. dit, lora: its DiT by itself, and the file
    with a LoRA for another DiT, if any. tell: what it is, for inspect and verify; None where the file is no checkpoint.
    """

    kind: str
    files: Callable[[OpenFiles, Path], dict[str, Path]]
    adapter: Callable[[OpenModel, ReferencePosition | None], Adapter]
    dit: Callable[[OpenFiles, Path], WeightFile]
    tell: Callable[[OpenFiles, Path], Identity | None]
    lora: Callable[[OpenFiles, Path], WeightFile | None] = _no_lora
    is_folder: Callable[[Path], bool] = _never
    is_file: Callable[[WeightFile], bool] = _never
