"""Kiwi-Edit's two layouts of checkpoints, the training file and the diffusers folder, and the adapter out of either.

kiwi.py reads the tensors; here they get the config that they and the other files of the model tell.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ...config import DenoiserConfig, InstructXConfig, MllmConfig, ReferencePosition, VaeConfig, kiwi_5b
from ...errors import InputError
from .checkpoint_layout import Adapter, CheckpointLayout, OpenModel
from .dit import dit_config
from .dit_sizes import Shapes
from .folders import DIFFUSERS_DIT
from .kiwi import KiwiParts, complete, dit_inside, is_kiwi_training, read_folder, read_training_file
from .kiwi_config import DIFFUSERS_SIGMA_MIN, KiwiSettings, infer_config, reference_position
from .kiwi_folder import is_kiwi_folder, kiwi_folder
from .kiwi_identity import tell_folder, tell_training_file
from .qwen_config import infer_mllm
from .vae import vae_config
from .weight_file import OpenFiles, WeightFile

# --- the folder ----------------------------------------------------------------------------------------------------


def _folder_files(opened: OpenFiles, root: Path) -> dict[str, Path]:
    folder = opened.once(kiwi_folder, root)
    return {
        "denoiser": folder.transformer,
        "vae": folder.vae,
        "text_encoder": folder.text_encoder,
        "adapter": root,
        "tokenizer": folder.tokenizer,
    }


def _read_folder(model: OpenModel, position: ReferencePosition | None) -> Adapter:
    folder, name = model.opened.once(kiwi_folder, model.path), model.path.name
    where, why = reference_position(folder.reference_first, name, position)
    settings = KiwiSettings(position=where, object_tokens=folder.object_tokens, sigma_min=DIFFUSERS_SIGMA_MIN)
    parts = read_folder([(prefix, model.opened.open(file)) for prefix, file in folder.adapter])
    qwen = model.text_encoder
    is_its_own = qwen is not None and qwen.path == folder.text_encoder
    mllm = _mllm_sizes(qwen, folder.qwen_config if is_its_own else None)
    return _adapter(name, parts, mllm, settings, why, model)


def _folder_dit(opened: OpenFiles, root: Path) -> WeightFile:
    return opened.open(root / DIFFUSERS_DIT)


KIWI_FOLDER = CheckpointLayout(
    kind="kiwi-folder",
    is_folder=is_kiwi_folder,
    files=_folder_files,
    adapter=_read_folder,
    dit=_folder_dit,
    tell=tell_folder,
)


# --- the training file ---------------------------------------------------------------------------------------------


def _is_training_file(file: WeightFile) -> bool:
    return file.once(is_kiwi_training) and file.config is None


def _training_files(opened: OpenFiles, path: Path) -> dict[str, Path]:
    """A file with the whole DiT needs no other."""
    holds_dit = opened.open(path).once(dit_inside).kind == "whole"
    return {"adapter": path, "denoiser": path} if holds_dit else {"adapter": path}


def _read_training_file(model: OpenModel, position: ReferencePosition | None) -> Adapter:
    file, name = model.opened.open(model.path), model.path.stem
    where, why = reference_position(None, name, position)
    mllm = _mllm_sizes(model.text_encoder)
    return _adapter(name, read_training_file(file), mllm, KiwiSettings(position=where), why, model)


def _training_dit(opened: OpenFiles, path: Path) -> WeightFile:
    dit = opened.open(path).once(dit_inside)
    if dit.kind == "whole":
        return dit.file
    raise InputError(f"{path.name} holds no DiT of its own; use the Wan DiT that it was trained on (instructx inspect)")


def _training_lora(opened: OpenFiles, path: Path) -> WeightFile | None:
    file = opened.open(path)
    return file if file.once(dit_inside).kind == "lora" else None


KIWI_TRAINING = CheckpointLayout(
    kind="kiwi-training",
    is_file=_is_training_file,
    files=_training_files,
    adapter=_read_training_file,
    dit=_training_dit,
    lora=_training_lora,
    tell=tell_training_file,
)


# --- the adapter ---------------------------------------------------------------------------------------------------


def _adapter(
    name: str, parts: KiwiParts, mllm: MllmConfig, settings: KiwiSettings, why: str, model: OpenModel
) -> Adapter:
    """why: who says where the reference stands."""
    dit = _denoiser_sizes(model, parts.shapes)
    vae = _vae_sizes(model, dit)
    config = infer_config(parts.shapes, name=name, mllm=mllm, denoiser=dit, vae=vae, settings=settings)
    try:
        InstructXConfig.from_json(config.to_json())  # its own check: what no model has must not reach the maths
    except ValueError as error:
        raise InputError(f"{name} has a config that no model has ({error}); download its config files again") from None
    notes = parts.report.notes
    if config.denoiser.reference_embedder == "own":
        notes = (*notes, f"reference tokens stand {settings.position} in the sequence ({why})")
    tensors = complete(parts.tensors, config)
    return Adapter(model.path, config, tensors, dataclasses.replace(parts.report, notes=notes))


def _mllm_sizes(file: WeightFile | None, config_file: Path | None = None) -> MllmConfig:
    """From Qwen's file. config_file: what lies in a Kiwi-Edit folder for its own."""
    return MllmConfig() if file is None else infer_mllm(file, config_file)


def _denoiser_sizes(model: OpenModel, shapes: Shapes) -> DenoiserConfig:
    """From the DiT, given or brought; else the public one of the connector's width."""
    if model.denoiser is not None:
        return model.denoiser.once(dit_config)
    width = shapes.get("connector.2.weight", (0,))[0]
    for usual in (kiwi_5b().denoiser, DenoiserConfig()):
        if usual.dim == width:
            return usual
    raise InputError(
        f"{model.path.name} holds no DiT and its connector ends at width {width}; give the DiT it belongs to"
    )


def _vae_sizes(model: OpenModel, denoiser: DenoiserConfig) -> VaeConfig:
    if model.vae is not None:
        return vae_config(model.vae.plain)
    return kiwi_5b().vae if denoiser.in_channels == kiwi_5b().vae.z_dim else VaeConfig()
