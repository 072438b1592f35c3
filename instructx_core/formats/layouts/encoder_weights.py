"""Names of the encoder's tensors, and the adapter file: what InstructX adds to Qwen2.5-VL and Wan, with its config.

Needs neither diffusers nor peft, so that a ComfyUI node loads an encoder with what the host has. formats/encoder.py
reads the weights; weights.py builds the whole pipeline on top of it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from ...config import InstructXConfig
from ...errors import InputError
from ..containers.tensorfile import check_names, read_config, read_tensors

EMBEDDERS = ("source_embedder.", "reference_embedder.")


def mllm_to_original(key: str) -> str:
    """Name in Qwen2_5_VLModel -> the original repository's (model.*, visual.*); LoRA's base layers are unwrapped."""
    return re.sub(r"^language_model\.", "model.", key).replace(".base_layer.", ".")


def mllm_from_original(key: str) -> str | None:
    """The original repository's name, or transformers' newer one -> name in Qwen2_5_VLModel; None for the lm_head."""
    if key.startswith("lm_head."):
        return None
    key = re.sub(r"^model\.(language_model|visual)\.", r"\1.", key)
    return re.sub(r"^model\.", "language_model.", key)


def agree(path: Path, config: InstructXConfig, fields: tuple[str, ...]) -> None:
    """Raises InputError when the file was saved for another model than `config`."""
    other = read_config(path)
    if other is None:
        return
    for name in fields:
        ours, theirs = getattr(config, name), getattr(other, name)
        if ours == theirs:
            continue
        if not dataclasses.is_dataclass(ours):
            difference = f"{name} {theirs!r}, not {ours!r}"
        else:
            values = ((f.name, getattr(theirs, f.name), getattr(ours, f.name)) for f in dataclasses.fields(ours))
            difference = "; ".join(f"{name}.{field} {a!r}, not {b!r}" for field, a, b in values if a != b)
        raise InputError(f"{path.name} belongs to {other.name} ({difference}); use the files of {config.name} together")


def adapter_config(path: str | Path) -> InstructXConfig:
    """The config that an adapter file carries. Raises InputError when it carries none."""
    config = read_config(path)
    if config is None:
        raise InputError(
            f"{Path(path).name} carries no InstructX config; it is not an adapter file, use the shipped one"
        )
    return config


def assign_tensors(file: Path, module: nn.Module, state: dict[str, Tensor], spell: Callable[[str], str]) -> None:
    """Strict load into a module of empty parameters. Messages use the file's spelling."""
    want = module.state_dict()
    check_names(file.name, {spell(k): v for k, v in state.items()}, {spell(k): v for k, v in want.items()})
    module.load_state_dict(state, strict=True, assign=True)


def read_adapter(path: str | Path, config: InstructXConfig | None = None) -> dict[str, Tensor]:
    """Tensors of an adapter file, as stored. Raises InputError when it is not one, or of another profile."""
    own = adapter_config(path)
    if config is not None and config != own:
        agree(Path(path), config, tuple(f.name for f in dataclasses.fields(config)))
    return read_tensors(path)
