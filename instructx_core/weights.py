"""Checkpoints on disk <-> InstructXPipeline: saved in the layout of a ComfyUI model folder, loaded from it, from
Kiwi-Edit's files, and from base Wan and Qwen files with an adapter (formats/layouts/ reads them).

Every file that we save carries the InstructXConfig in its metadata; the adapter's one decides, the others must agree
where present. A load opens each of its files once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from .config import EMBEDDERS, InstructXConfig
from .denoiser import InstructXTransformer3DModel, build_denoiser
from .encoder.model import InstructXEncoder, build_encoder
from .encoder.tokenizer import backend, load_tokenizer
from .errors import InputError
from .formats.containers.strict import check_names
from .formats.containers.writing import whole_folder, write_tensors
from .formats.layouts.adapter import read_adapter
from .formats.layouts.checkpoints import open_dit, open_model
from .formats.layouts.dit import read_dit
from .formats.layouts.encoder import read_encoder
from .formats.layouts.files import CheckpointFiles, PartPaths, files_of, find_files
from .formats.layouts.folders import FOLDERS, SHIPPED, TOKENIZER_FILE
from .formats.layouts.keymaps import dit_to_original, vae_to_original
from .formats.layouts.kiwi_config import Position
from .formats.layouts.lora import apply_lora
from .formats.layouts.modules import empty_parameters
from .formats.layouts.qwen_names import mllm_to_original
from .formats.layouts.report import LoadReport
from .formats.layouts.vae import read_vae
from .formats.layouts.weight_file import OpenFiles, Paths, WeightFile, config_metadata, open_weights
from .pipeline import InstructXPipeline
from .sampling.schedule import build_scheduler
from .vae import build_vae

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan
    from transformers import PreTrainedTokenizerBase
    from typing_extensions import Unpack


# --- save ----------------------------------------------------------------------------------------------------------


class Saveable(Protocol):
    """What a checkpoint is made of: an InstructXPipeline, or any object with these parts."""

    vae: AutoencoderKLWan
    transformer: InstructXTransformer3DModel
    encoder: InstructXEncoder
    tokenizer: PreTrainedTokenizerBase


def adapter_state(encoder: InstructXEncoder, transformer: InstructXTransformer3DModel) -> dict[str, Tensor]:
    """Every tensor of the adapter file: what InstructX adds to Qwen2.5-VL and Wan."""
    own = ("queries.", "connector.", "reference_connector.")
    state = {name: value for name, value in encoder.state_dict().items() if name.startswith(own)}
    state |= {name: value for name, value in transformer.state_dict().items() if name.startswith(EMBEDDERS)}
    return state | _lora_state(encoder)


def _lora_state(encoder: InstructXEncoder) -> dict[str, Tensor]:
    """LoRA of the MLLM that is still separate, by name in an adapter file."""
    return {mllm_to_original(name.removeprefix("mllm.")): value for name, value in encoder.lora_state_dict().items()}


def save_checkpoint(
    folder: str | Path,
    pipeline: Saveable,
    config: InstructXConfig | None = None,
    dtype: torch.dtype = torch.bfloat16,
    name: str | None = None,
) -> CheckpointFiles:
    """Write a checkpoint in the shipped layout; `folder` appears whole or not at all.

    config: by default the pipeline's. name: X, by default instructx_<config.name>. LoRA that is still separate goes to
    the adapter file, unmerged. Raises InputError when the folder holds other files, a tensor is not finite or the DiT
    has unfused LoRA.
    """
    if config is None:
        config = pipeline.instructx_config  # type: ignore[attr-defined]
    assert config is not None
    file = f"{name or f'instructx_{config.name}'}.safetensors"
    encoder, transformer = pipeline.encoder, pipeline.transformer
    if any(".lora_" in key for key in transformer.state_dict()):
        raise InputError("the DiT has LoRA layers; call pipe.fuse_lora() and pipe.unload_lora_weights() before saving")
    dit = {key: value for key, value in transformer.state_dict().items() if not key.startswith(EMBEDDERS)}
    mllm = {key: value for key, value in encoder.mllm.state_dict().items() if ".lora_" not in key}
    parts = {
        "denoiser": {dit_to_original(key): value for key, value in dit.items()},
        "vae": {vae_to_original(key, config.vae): value for key, value in pipeline.vae.state_dict().items()},
        "text_encoder": {mllm_to_original(key): value for key, value in mllm.items()},
        "adapter": adapter_state(encoder, transformer),
    }
    with whole_folder(folder, (*FOLDERS.values(), TOKENIZER_FILE)) as temporary:
        for part, tensors in parts.items():
            write_tensors(temporary / FOLDERS[part] / file, tensors, config_metadata(config), dtype)
        backend(pipeline.tokenizer).save(str(temporary / TOKENIZER_FILE))
    return find_files(folder)


# --- load one part -------------------------------------------------------------------------------------------------


def load_denoiser(
    path: str | Path,
    config: InstructXConfig,
    adapter: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype = torch.bfloat16,
    device: str | torch.device = "cpu",
) -> InstructXTransformer3DModel:
    """The DiT from a Wan file plus, for a profile with own embedders, the tensors of an `adapter` (load_adapter).

    Norms, modulation and embedders stay fp32, as in diffusers. Raises InputError when tensors do not fit.
    """
    with OpenFiles() as opened:
        return _denoiser(open_dit(opened, Path(path)), config, adapter, Target(dtype, device))[0]


def load_vae(
    path: str | Path,
    config: InstructXConfig,
    dtype: torch.dtype = torch.bfloat16,
    device: str | torch.device = "cpu",
) -> AutoencoderKLWan:
    """The VAE from a file or folder in original Wan or diffusers names.

    Raises InputError when it is another VAE or tensors do not fit.
    """
    with open_weights(path) as file:
        return _vae(file, config, Target(dtype, device))[0]


def load_encoder(
    path: Paths,
    config: InstructXConfig,
    adapter: Mapping[str, Tensor],
    dtype: torch.dtype = torch.bfloat16,
    device: str | torch.device = "cpu",
    merge_lora: bool = True,
) -> InstructXEncoder:
    """Encoder from a Qwen2.5-VL file and an adapter. merge_lora: fold LoRA into the weights, computed in fp32.

    merge_lora=False keeps LoRA layers, to train on. Raises InputError when tensors do not fit.
    """
    with open_weights(path) as file:
        return _encoder(file, config, adapter, Target(dtype, device, merge_lora))[0]


@dataclass(frozen=True)
class Target:
    """How weights are wanted. merge_lora: the MLLM's LoRA folded in, not as layers to train on."""

    dtype: torch.dtype
    device: str | torch.device
    merge_lora: bool = True


def _denoiser(
    file: WeightFile, config: InstructXConfig, adapter: Mapping[str, Tensor] | None, target: Target
) -> tuple[InstructXTransformer3DModel, LoadReport]:
    with empty_parameters():
        model = build_denoiser(config)
    report = read_dit(model, file, config, adapter, target.dtype, target.device)
    return model.to(device=target.device).eval(), report.log()


def _vae(file: WeightFile, config: InstructXConfig, target: Target) -> tuple[AutoencoderKLWan, LoadReport]:
    with empty_parameters():
        model = build_vae(config.vae)
    report = read_vae(model, file, config, target.dtype, target.device)
    return model.to(device=target.device).eval(), report.log()


def _encoder(
    file: WeightFile, config: InstructXConfig, adapter: Mapping[str, Tensor], target: Target
) -> tuple[InstructXEncoder, LoadReport]:
    with empty_parameters():
        model = build_encoder(config)
    report = read_encoder(model, file, config, adapter, target.dtype, target.device, target.merge_lora)
    lora = {name: value for name, value in adapter.items() if ".lora_" in name}
    if lora and not target.merge_lora:
        model.add_lora(config.lora)
        want = _lora_state(model)
        check_names("adapter", lora, want)
        for name, value in want.items():
            value.copy_(lora[name])
    return model.to(device=target.device).eval(), report.log()


# --- load a model --------------------------------------------------------------------------------------------------


def load_pipeline(
    source: str | Path | CheckpointFiles | None = None,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    name: str | None = None,
    merge_lora: bool = True,
    *,
    reference_position: Position | None = None,
    **parts: Unpack[PartPaths],
) -> InstructXPipeline:
    """A pipeline from a folder in ComfyUI's layout, a Kiwi-Edit folder or training file, or (None) the shipped `tiny`.

    denoiser, vae, text_encoder, adapter, tokenizer: files or folders for what `source` does not hold, or instead of it;
    without source all of them. dtype: default fp32 on the CPU, bf16 elsewhere. name: X, when a folder holds several
    models. reference_position: overrides what a Kiwi-Edit config or file name says. What each file gave is in the
    result's `load_reports` and in the log, with the licences. Raises InputError on anything missing, damaged, of
    another profile or size, in an unknown quantisation, pickled or not finite.
    """
    device = torch.device(device)
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
    with OpenFiles() as opened:
        if isinstance(source, CheckpointFiles):
            files = source
        else:
            nothing = source is None and not any(parts.values())
            files = files_of(SHIPPED if nothing else source, name, parts, opened)
        return read_pipeline(files, opened, Target(dtype, device, merge_lora), reference_position)


def read_pipeline(
    files: CheckpointFiles, opened: OpenFiles, target: Target, position: Position | None
) -> InstructXPipeline:
    """The pipeline of these files, which `opened` keeps open while they are read; see load_pipeline."""
    from transformers import PreTrainedTokenizerFast

    dit = open_dit(opened, files.denoiser)
    vae_file, qwen = opened.open(files.vae), opened.open(files.text_encoder)
    model = open_model(opened, files.adapter, text_encoder=files.text_encoder, denoiser=files.denoiser, vae=files.vae)
    adapter = read_adapter(model, position)
    config, reports = adapter.config, [adapter.report.log()]
    transformer, report = _denoiser(dit, config, adapter.tensors, target)
    reports.append(report)
    lora = model.layout.lora(opened, files.adapter)
    if lora is not None:
        reports.append(apply_lora(transformer, lora).log())
    vae, report = _vae(vae_file, config, target)
    reports.append(report)
    encoder, report = _encoder(qwen, config, adapter.tensors, target)
    pipeline = InstructXPipeline(
        vae=vae,
        transformer=transformer,
        encoder=encoder,
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=load_tokenizer(files.tokenizer)),
        scheduler=build_scheduler(config),
        instructx=config,
    )
    pipeline.load_reports = (*reports, report)
    return pipeline
