"""The adapter: what InstructX adds to Qwen2.5-VL and Wan, with the config that says how all of it works together.

Three kinds of files give one: our own (queries, connectors, LoRA of the MLLM, embedders; every switch in its metadata),
a Kiwi-Edit training file, a Kiwi-Edit diffusers folder. Needs neither diffusers nor peft, so that ComfyUI nodes can use
it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...config import DenoiserConfig, InstructXConfig, MllmConfig, VaeConfig, kiwi_5b
from ...errors import InputError
from ..containers.strict import read_weight
from ..containers.writing import write_tensors
from .dit import dit_config, dit_file
from .dit_sizes import Shapes
from .kiwi import KiwiParts, complete, read_folder, read_training_file
from .kiwi_config import DIFFUSERS_SIGMA_MIN, KiwiSettings, Position, infer_config, reference_position
from .kiwi_names import dit_inside, is_training_file
from .open_model import OpenFolder, OpenModel, open_model
from .qwen_config import infer_mllm
from .report import LoadReport
from .vae import vae_config
from .weight_file import OpenFiles, Paths, WeightFile, config_metadata


@dataclass(frozen=True)
class Adapter:
    """tensors: by name in an adapter file of ours. path: where they come from. report: what was read."""

    path: Path
    config: InstructXConfig
    tensors: Mapping[str, Tensor]
    report: LoadReport

    def save(self, path: str | Path, dtype: torch.dtype = torch.bfloat16) -> None:
        """Write an adapter file of ours, with the config in its metadata."""
        write_tensors(Path(path), self.tensors, config_metadata(self.config), dtype)


def load_adapter(
    path: str | Path,
    *,
    text_encoder: Paths | None = None,
    denoiser: str | Path | None = None,
    vae: str | Path | None = None,
    reference_position: Position | None = None,
) -> Adapter:
    """The adapter of a file of ours, a Kiwi-Edit training file or its diffusers folder; see read_adapter."""
    with OpenFiles() as opened:
        model = open_model(opened, path, text_encoder=text_encoder, denoiser=denoiser, vae=vae)
        return read_adapter(model, reference_position)


def read_adapter(model: OpenModel, position: Position | None = None) -> Adapter:
    """The adapter of an opened model, with its config.

    The other files give a Kiwi-Edit config its sizes; without them those of Qwen2.5-VL-3B and the public Wan models are
    taken, and a training file that holds the whole DiT needs no denoiser. position: overrides what config or name say
    about the reference; None keeps that. Raises InputError when it is no adapter, or parts do not fit.
    """
    file = model.adapter
    if isinstance(file, OpenFolder):
        found = reference_position(file.folder.reference_first, file.path.name, position)
        tokens = file.folder.object_tokens
        settings = KiwiSettings(position=found[0], object_tokens=tokens, sigma_min=DIFFUSERS_SIGMA_MIN)
        return _kiwi(file.path.name, read_folder(file.adapter), settings, found[1], model)
    if file.config is None and is_training_file(file.source):
        found = reference_position(None, file.path.stem, position)
        return _kiwi(file.path.stem, read_training_file(file), KiwiSettings(position=found[0]), found[1], model)
    return _ours(file, position)


def _ours(file: WeightFile, position: Position | None) -> Adapter:
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


# --- Kiwi-Edit -----------------------------------------------------------------------------------------------------


def _kiwi(name: str, parts: KiwiParts, settings: KiwiSettings, why: str, model: OpenModel) -> Adapter:
    """why: who says where the reference stands."""
    dit = _denoiser_sizes(model, parts.shapes)
    config = infer_config(
        parts.shapes, name=name, mllm=_mllm_sizes(model), denoiser=dit, vae=_vae_sizes(model, dit), settings=settings
    )
    try:
        InstructXConfig.from_json(config.to_json())  # its own check: what no model has must not reach the maths
    except ValueError as error:
        raise InputError(f"{name} has a config that no model has ({error}); download its config files again") from None
    notes = parts.report.notes
    if config.denoiser.reference_embedder == "own":
        notes = (*notes, f"reference tokens stand {settings.position} in the sequence ({why})")
    tensors = complete(parts.tensors, config)
    return Adapter(model.adapter.path, config, tensors, dataclasses.replace(parts.report, notes=notes))


def _mllm_sizes(model: OpenModel) -> MllmConfig:
    """From Qwen's file; in a Kiwi-Edit folder, with the config that lies there for its own."""
    file, adapter = model.text_encoder, model.adapter
    if file is None:
        return MllmConfig()
    own = isinstance(adapter, OpenFolder) and file.path == adapter.folder.text_encoder
    return infer_mllm(file, adapter.folder.qwen_config if own else None)


def _denoiser_sizes(model: OpenModel, shapes: Shapes) -> DenoiserConfig:
    """From the DiT: the one given, the one inside the file, else the public one of the connector's width."""
    file, adapter = model.denoiser, model.adapter
    if file is None and isinstance(adapter, WeightFile) and dit_inside(adapter.source) == "whole":
        file = adapter
    if file is not None:
        return dit_config(file.once(dit_file).plain)
    width = shapes.get("connector.2.weight", (0,))[0]
    for usual in (kiwi_5b().denoiser, DenoiserConfig()):
        if usual.dim == width:
            return usual
    raise InputError(
        f"{adapter.path.name} holds no DiT and its connector ends at width {width}; give the DiT it belongs to"
    )


def _vae_sizes(model: OpenModel, denoiser: DenoiserConfig) -> VaeConfig:
    if model.vae is not None:
        return vae_config(model.vae.plain)
    return kiwi_5b().vae if denoiser.in_channels == kiwi_5b().vae.z_dim else VaeConfig()
