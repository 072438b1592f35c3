"""The adapter inside Kiwi-Edit's files: training files of stages 1 to 3 and diffusers folders; UniGen-LingXi has the
same layout.

kiwi_names.py has the names, kiwi_folder.py what lies where, kiwi_config.py the config that the shapes tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ...config import InstructXConfig
from ...errors import some
from ..containers.strict import name_all, read_weight
from .kiwi_config import REFERENCE_PARTS
from .kiwi_names import adapter_name, dit_part, is_training_file
from .public_models import KIWI_LICENCE
from .report import LoadReport
from .weight_file import WeightFile

_DIT_INSIDE = {"whole": "with the whole DiT", "lora": "with a LoRA of the DiT", "none": "without a DiT"}


@dataclass(frozen=True)
class DitInside:
    """What of a DiT a training file holds. file: the whole DiT by itself, without tensors unless kind is "whole"."""

    kind: Literal["whole", "lora", "none"]
    file: WeightFile


def is_kiwi_training(file: WeightFile) -> bool:
    """Whether it is a training file. Ask it `once`."""
    return is_training_file(file.source)


def dit_inside(file: WeightFile) -> DitInside:
    """What of a DiT a training file holds. Ask it `once`."""
    whole = WeightFile(dit_part(file.source))
    if whole.source.keys():
        return DitInside("whole", whole)
    return DitInside("lora" if dit_part(file.source, lora=True).keys() else "none", whole)


@dataclass(frozen=True)
class KiwiParts:
    """Everything of a checkpoint beside Qwen, Wan and the VAE, in our names."""

    tensors: dict[str, Tensor]
    report: LoadReport

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}


def read_training_file(file: WeightFile) -> KiwiParts:
    """The adapter inside a training file. Raises InputError when it is damaged."""
    source = file.plain
    names = name_all(source, source.keys(), adapter_name)
    tensors = {name: read_weight(source, key) for name, key in names.items()}
    kind = f"Kiwi-Edit training file {_DIT_INSIDE[file.once(dit_inside).kind]}, {file.numbers}"
    return KiwiParts(tensors, _report(file.files, kind, tensors, tuple(names.values())))


def read_folder(parts: Sequence[tuple[str, WeightFile]]) -> KiwiParts:
    """The adapter inside a diffusers folder. parts: (prefix of its tensors, file)."""
    tensors: dict[str, Tensor] = {}
    consumed: list[str] = []
    for prefix, file in parts:
        source = file.plain
        names = name_all(source, source.keys(), lambda key, prefix=prefix: adapter_name(prefix + key))
        tensors |= {name: read_weight(source, key) for name, key in names.items()}
        consumed += [prefix + key for key in names.values()]
    files = tuple(path for _, file in parts for path in file.files)
    return KiwiParts(tensors, _report(files, "Kiwi-Edit diffusers folder", tensors, tuple(consumed)))


def _report(files: tuple[Path, ...], kind: str, tensors: Mapping[str, Tensor], consumed: tuple[str, ...]) -> LoadReport:
    missing = [part for part in ("queries.image", "queries.video", *REFERENCE_PARTS) if part not in tensors]
    notes = [KIWI_LICENCE]
    lost = [part for part in REFERENCE_PARTS if part in missing]
    if lost:
        notes.append(f"references are refused: the checkpoint has no {some(lost)}")
    if "source_embedder.weight" not in tensors:
        missing.append("source_embedder.weight")
        notes.append("no source embedder (stage 1): the DiT does not see the source, only Qwen does")
    return LoadReport(files=files, kind=kind, consumed=consumed, missing=tuple(missing), notes=tuple(notes))


def complete(tensors: Mapping[str, Tensor], config: InstructXConfig) -> dict[str, Tensor]:
    """`tensors` as `config` needs them: incomplete reference parts left out, an absent source embedder as zeros.

    Zeros are what its own code starts from, so a stage 1 file gives the same result there and here.
    """
    dropped = () if config.denoiser.reference_embedder == "own" else ("queries.reference", "reference_")
    kept = {name: value for name, value in tensors.items() if not name.startswith(dropped)}
    dit = config.denoiser
    if "source_embedder.weight" not in kept:
        kept["source_embedder.weight"] = torch.zeros(dit.dim, dit.in_channels, *dit.patch_size)
        kept["source_embedder.bias"] = torch.zeros(dit.dim)
    return kept
