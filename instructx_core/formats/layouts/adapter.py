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
from typing import Any

import torch
from torch import Tensor

from ...config import DenoiserConfig, InstructXConfig, MllmConfig, VaeConfig, kiwi_5b
from ...errors import InputError
from ..containers.opening import open_source
from ..containers.tensor_source import TensorSource
from ..containers.tensorfile import METADATA_KEY, write_tensors
from ..telling.report import LoadReport
from . import kiwi
from .dit import dit_config
from .encoder import Paths, infer_mllm, open_encoder
from .encoder_weights import adapter_config, read_adapter
from .vae import vae_config


@dataclass(frozen=True)
class Adapter:
    """tensors: by name in an adapter file of ours. path: where they come from. report: what was read."""

    path: Path
    config: InstructXConfig
    tensors: Mapping[str, Tensor]
    report: LoadReport

    def save(self, path: str | Path, dtype: torch.dtype = torch.bfloat16) -> None:
        """Write an adapter file of ours, with the config in its metadata."""
        write_tensors(Path(path), self.tensors, self.config, dtype)


def load_adapter(
    path: str | Path,
    *,
    text_encoder: Paths | None = None,
    denoiser: str | Path | None = None,
    vae: str | Path | None = None,
    reference_position: kiwi.Position | None = None,
) -> Adapter:
    """The adapter of a file of ours, a Kiwi-Edit training file or its diffusers folder.

    The other files give a Kiwi-Edit config its sizes; without them those of Qwen2.5-VL-3B and the public Wan models are
    taken, and a training file that holds the whole DiT needs no denoiser. reference_position: overrides what config or
    name say; None keeps that. Raises InputError when it is no adapter, or parts do not fit.
    """
    path = Path(path)
    beside = _Beside(text_encoder=text_encoder, denoiser=denoiser, vae=vae)
    if kiwi.is_folder(path):
        return _kiwi_folder(path, beside, reference_position)
    with open_source(path) as source:
        ours = METADATA_KEY in source.metadata
        training = not ours and kiwi.is_training_file(source)
    if training:
        return _kiwi_file(path, beside, reference_position)
    config, tensors = adapter_config(path), read_adapter(path)
    if reference_position is not None:
        kiwi.reference_position(None, "", reference_position)
        config = dataclasses.replace(
            config, denoiser=dataclasses.replace(config.denoiser, reference_position=reference_position)
        )
    kind = f"InstructX adapter {config.name} ({config.profile})"
    return Adapter(path, config, tensors, LoadReport(files=(path,), kind=kind, consumed=tuple(tensors)))


# --- Kiwi-Edit -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Beside:
    """The other files of a model, as far as they are known."""

    text_encoder: Paths | None
    denoiser: str | Path | None
    vae: str | Path | None
    qwen_config: Path | None = None


def _kiwi_file(path: Path, beside: _Beside, chosen: kiwi.Position | None) -> Adapter:
    position = kiwi.reference_position(None, path.stem, chosen)
    return _kiwi(path, path.stem, kiwi.read_training_file(path), position, beside)


def _kiwi_folder(path: Path, beside: _Beside, chosen: kiwi.Position | None) -> Adapter:
    folder = kiwi.read_folder(path)
    own = beside.text_encoder in (None, folder.text_encoder, [folder.text_encoder])
    whole = _Beside(
        text_encoder=beside.text_encoder or folder.text_encoder,
        denoiser=beside.denoiser or folder.transformer,
        vae=beside.vae or folder.vae,
        qwen_config=folder.qwen_config if own else None,
    )
    position = kiwi.reference_position(folder.reference_first, path.name, chosen)
    told = {"object_tokens": folder.object_tokens, "sigma_min": kiwi.DIFFUSERS_SIGMA_MIN}
    return _kiwi(path, path.name, kiwi.read_folder_adapter(folder), position, whole, **told)


def _kiwi(
    path: Path, name: str, parts: kiwi.KiwiParts, position: tuple[kiwi.Position, str], beside: _Beside, **told: Any
) -> Adapter:
    dit = _denoiser_sizes(path, beside.denoiser, parts.shapes)
    mllm = _mllm_sizes(beside)
    config = kiwi.infer_config(
        parts.shapes, name=name, mllm=mllm, denoiser=dit, vae=_vae_sizes(beside.vae, dit), position=position[0], **told
    )
    try:
        InstructXConfig.from_json(config.to_json())  # its own check: what no model has must not reach the maths
    except ValueError as error:
        raise InputError(f"{name} has a config that no model has ({error}); download its config files again") from None
    notes = parts.report.notes
    if config.denoiser.reference_embedder == "own":
        notes = (*notes, "reference tokens stand {} in the sequence ({})".format(*position))
    return Adapter(path, config, kiwi.complete(parts.tensors, config), dataclasses.replace(parts.report, notes=notes))


def _mllm_sizes(beside: _Beside) -> MllmConfig:
    if beside.text_encoder is None:
        return MllmConfig()
    with open_encoder(beside.text_encoder) as source:
        return infer_mllm(source, beside.qwen_config)


def _denoiser_sizes(path: Path, denoiser: str | Path | None, shapes: Mapping[str, tuple[int, ...]]) -> DenoiserConfig:
    """From the DiT: the one given, the one inside the file, else the public one of the connector's width."""
    if denoiser is not None:
        with open_denoiser(denoiser) as source:
            return dit_config(source)
    if holds_denoiser(path) == "whole":
        with open_denoiser(path) as source:
            return dit_config(source)
    width = shapes.get("connector.2.weight", (0,))[0]
    for usual in (kiwi_5b().denoiser, DenoiserConfig()):
        if usual.dim == width:
            return usual
    raise InputError(f"{path.name} holds no DiT and its connector ends at width {width}; give the DiT it belongs to")


def _vae_sizes(vae: str | Path | None, denoiser: DenoiserConfig) -> VaeConfig:
    if vae is not None:
        with open_source(vae) as source:
            return vae_config(source)
    return kiwi_5b().vae if denoiser.in_channels == kiwi_5b().vae.z_dim else VaeConfig()


def open_denoiser(path: str | Path) -> TensorSource:
    """The tensors of a DiT; of the DiT inside, for a Kiwi-Edit training file."""
    source = open_source(path)
    return kiwi.dit_part(source) if kiwi.is_training_file(source) else source


def holds_denoiser(path: Path) -> str | None:
    """ "whole" or "lora" for a Kiwi-Edit training file that holds a DiT or a LoRA of it, None for all else."""
    if path.is_dir():
        return None
    with open_source(path) as source:
        if not kiwi.is_training_file(source):
            return None
        if kiwi.dit_part(source).keys():
            return "whole"
        return "lora" if kiwi.dit_part(source, lora=True).keys() else None
