"""Checkpoints on disk <-> InstructXPipeline: saved in the layout of a ComfyUI model folder (formats/files.py), loaded
from it, from Kiwi-Edit's files, and from base Wan and Qwen files with an adapter.

Every file that we save carries the InstructXConfig in its metadata; the adapter's one decides, the others must agree
where present.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .config import InstructXConfig
from .denoiser import InstructXTransformer3DModel, build_denoiser
from .encoder.model import InstructXEncoder, build_encoder
from .encoder.tokenizer import backend, load_tokenizer
from .errors import InputError
from .formats.containers.tensorfile import check_names, empty_parameters, whole_folder, write_tensors
from .formats.layouts.adapter import holds_denoiser, load_adapter, open_denoiser
from .formats.layouts.dit import read_dit
from .formats.layouts.encoder import read_encoder
from .formats.layouts.encoder_weights import EMBEDDERS, mllm_to_original
from .formats.layouts.files import FOLDERS, TOKENIZER_FILE, CheckpointFiles, find_files
from .formats.layouts.keymaps import dit_to_original, vae_to_original
from .formats.layouts.kiwi import Position
from .formats.layouts.lora import apply_lora
from .formats.layouts.vae import read_vae
from .formats.telling.report import LoadReport
from .pipeline import InstructXPipeline
from .sampling.schedule import build_scheduler
from .vae import build_vae

SHIPPED = Path(__file__).parent / "assets" / "tiny"


# --- adapter -------------------------------------------------------------------------------------------------------


def adapter_state(encoder: InstructXEncoder, transformer: InstructXTransformer3DModel) -> dict[str, Tensor]:
    """Every tensor of the adapter file: what InstructX adds to Qwen2.5-VL and Wan."""
    own = ("queries.", "connector.", "reference_connector.")
    state = {name: value for name, value in encoder.state_dict().items() if name.startswith(own)}
    state |= {name: value for name, value in transformer.state_dict().items() if name.startswith(EMBEDDERS)}
    lora = encoder.lora_state_dict()
    return state | {mllm_to_original(name.removeprefix("mllm.")): value for name, value in lora.items()}


# --- save ----------------------------------------------------------------------------------------------------------


def save_checkpoint(
    folder: str | Path,
    pipeline: Any,
    config: InstructXConfig | None = None,
    dtype: torch.dtype = torch.bfloat16,
    name: str | None = None,
) -> CheckpointFiles:
    """Write a checkpoint in the shipped layout; `folder` appears whole or not at all.

    pipeline: an InstructXPipeline, or any object with vae, transformer, encoder and tokenizer. name: X, by default
    instructx_<config.name>. LoRA that is still separate goes to the adapter file, unmerged.
    Raises InputError when the folder holds other files, a tensor is not finite or the DiT has unfused LoRA.
    """
    config = config or pipeline.instructx_config
    assert config is not None
    file = f"{name or f'instructx_{config.name}'}.safetensors"
    encoder, transformer = pipeline.encoder, pipeline.transformer
    if any(".lora_" in key for key in transformer.state_dict()):
        raise InputError("the DiT has LoRA layers; call pipe.fuse_lora() and pipe.unload_lora_weights() before saving")
    mllm = {mllm_to_original(key): value for key, value in encoder.mllm.state_dict().items() if ".lora_" not in key}
    dit = {
        dit_to_original(key): value
        for key, value in transformer.state_dict().items()
        if not key.startswith(EMBEDDERS)
    }  # fmt: skip
    parts = {
        "denoiser": dit,
        "vae": {vae_to_original(key, config.vae): value for key, value in pipeline.vae.state_dict().items()},
        "text_encoder": mllm,
        "adapter": adapter_state(encoder, transformer),
    }
    with whole_folder(folder, (*FOLDERS.values(), TOKENIZER_FILE)) as temporary:
        for part, tensors in parts.items():
            write_tensors(temporary / FOLDERS[part] / file, tensors, config, dtype)
        backend(pipeline.tokenizer).save(str(temporary / TOKENIZER_FILE))
    return find_files(folder)


# --- load ----------------------------------------------------------------------------------------------------------


def load_denoiser(
    path: str | Path,
    config: InstructXConfig,
    adapter: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype = torch.bfloat16,
    device: str | torch.device = "cpu",
) -> InstructXTransformer3DModel:
    """The DiT from a Wan file plus, for a profile with own embedders, `adapter` (read_adapter).

    Norms, modulation and embedders stay fp32, as in diffusers. Raises InputError when tensors do not fit.
    """
    return _load_dit(path, config, adapter, dtype, device)[0]


def _load_dit(
    path: str | Path,
    config: InstructXConfig,
    adapter: Mapping[str, Tensor] | None,
    dtype: torch.dtype,
    device: str | torch.device,
) -> tuple[InstructXTransformer3DModel, LoadReport]:
    with empty_parameters():
        model = build_denoiser(config)
    report = read_dit(model, open_denoiser(path), config, adapter, dtype, device)
    return model.to(device=device).eval(), report.log()


def load_vae(
    path: str | Path,
    config: InstructXConfig,
    dtype: torch.dtype = torch.bfloat16,
    device: str | torch.device = "cpu",
) -> Any:
    """AutoencoderKLWan from a file or folder in original Wan or diffusers names.

    Raises InputError when it is another VAE or tensors do not fit.
    """
    return _load_vae(path, config, dtype, device)[0]


def _load_vae(
    path: str | Path, config: InstructXConfig, dtype: torch.dtype, device: str | torch.device
) -> tuple[Any, LoadReport]:
    with empty_parameters():
        model = build_vae(config.vae)
    report = read_vae(model, path, config, dtype, device)
    return model.to(device=device).eval(), report.log()


def load_encoder(
    path: str | Path,
    config: InstructXConfig,
    adapter: Mapping[str, Tensor],
    dtype: torch.dtype = torch.bfloat16,
    device: str | torch.device = "cpu",
    merge_lora: bool = True,
) -> InstructXEncoder:
    """Encoder from a Qwen2.5-VL file and an adapter. merge_lora: fold LoRA into the weights, computed in fp32.

    merge_lora=False keeps LoRA layers, to train on. Raises InputError when tensors do not fit.
    """
    return _load_encoder(path, config, adapter, dtype, device, merge_lora)[0]


def _load_encoder(
    path: str | Path,
    config: InstructXConfig,
    adapter: Mapping[str, Tensor],
    dtype: torch.dtype,
    device: str | torch.device,
    merge_lora: bool,
) -> tuple[InstructXEncoder, LoadReport]:
    with empty_parameters():
        model = build_encoder(config)
    report = read_encoder(model, path, config, adapter, dtype, device, merge_lora)
    lora = {k: v for k, v in adapter.items() if ".lora_" in k}
    if lora and not merge_lora:
        model.add_lora(config.lora)
        names = {k: k.removeprefix("mllm.") for k in model.lora_state_dict()}
        want = {mllm_to_original(v): model.lora_state_dict()[k] for k, v in names.items()}
        check_names("adapter", lora, want)
        for k, value in want.items():
            value.copy_(lora[k])
    return model.to(device=device).eval(), report.log()


def load_pipeline(
    source: str | Path | CheckpointFiles | None = None,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    name: str | None = None,
    merge_lora: bool = True,
    *,
    denoiser: str | Path | None = None,
    vae: str | Path | None = None,
    text_encoder: str | Path | None = None,
    adapter: str | Path | None = None,
    tokenizer: str | Path | None = None,
    reference_position: Position | None = None,
) -> InstructXPipeline:
    """A pipeline from a folder in ComfyUI's layout, a Kiwi-Edit folder or training file, or (None) the shipped `tiny`.

    denoiser, vae, text_encoder, adapter, tokenizer: files or folders for what `source` does not hold, or instead of it;
    without source all of them. dtype: default fp32 on the CPU, bf16 elsewhere. name: X, when a folder holds several
    models. reference_position: overrides what a Kiwi-Edit config or file name says. What each file gave is in the
    result's `load_reports` and in the log, with the licences. Raises InputError on anything missing, damaged, of
    another profile or size, in an unknown quantisation, pickled or not finite.
    """
    from transformers import PreTrainedTokenizerFast

    given = {"denoiser": denoiser, "vae": vae, "text_encoder": text_encoder, "adapter": adapter, "tokenizer": tokenizer}
    if isinstance(source, CheckpointFiles):
        files = source
    else:
        nothing = source is None and not any(given.values())
        files = find_files(SHIPPED if nothing else source, name, **given)
    device = torch.device(device)
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
    loaded = load_adapter(
        files.adapter, text_encoder=files.text_encoder, denoiser=files.denoiser, vae=files.vae,
        reference_position=reference_position,
    )  # fmt: skip
    config, tensors = loaded.config, loaded.tensors
    reports = [loaded.report.log()]
    transformer, report = _load_dit(files.denoiser, config, tensors, dtype, device)
    reports.append(report)
    if files.denoiser != files.adapter and holds_denoiser(files.adapter) == "lora":
        reports.append(apply_lora(transformer, files.adapter))
    vae_model, report = _load_vae(files.vae, config, dtype, device)
    reports.append(report)
    encoder, report = _load_encoder(files.text_encoder, config, tensors, dtype, device, merge_lora)
    pipeline = InstructXPipeline(
        vae=vae_model,
        transformer=transformer,
        encoder=encoder,
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=load_tokenizer(files.tokenizer)),
        scheduler=build_scheduler(config),
        instructx=config,
    )
    pipeline.load_reports = (*reports, report)
    return pipeline
