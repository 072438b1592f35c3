"""The adapter file of ours: queries, connectors, LoRA of the MLLM, embedders; every switch in its metadata."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ...config import ReferencePosition
from ...errors import InputError
from ..containers.strict import read_weight
from .checkpoint_layout import Adapter, CheckpointLayout, OpenModel
from .kiwi_config import reference_position
from .report import LoadReport
from .weight_file import OpenFiles, WeightFile


def _read(model: OpenModel, position: ReferencePosition | None) -> Adapter:
    file = model.opened.open(model.path)
    config = file.config
    if config is None:
        raise InputError(
            f"{file.path.name} carries no InstructX config; it is not an adapter file, use the shipped one"
        )
    source = file.plain
    tensors = {key: read_weight(source, key) for key in source.keys()}
    if position is not None:
        reference_position(None, "", position)
        config = dataclasses.replace(config, denoiser=dataclasses.replace(config.denoiser, reference_position=position))
    kind = f"InstructX adapter {config.name} ({config.profile})"
    return Adapter(file.path, config, tensors, LoadReport(files=file.files, kind=kind, consumed=tuple(tensors)))


def _files(_: OpenFiles, path: Path) -> dict[str, Path]:
    return {"adapter": path}


def _dit(opened: OpenFiles, path: Path) -> WeightFile:
    return opened.open(path)


OURS = CheckpointLayout(kind="adapter", files=_files, adapter=_read, dit=_dit)
