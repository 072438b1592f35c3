"""Files of a model -> its modules, filled: each file is found, opened and asked here, and closed before anyone goes on.

The readers of layouts/ fill one module each. weights.py makes a pipeline of what comes out; benchmarks and tests load
single parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer
from torch import Tensor

from ..config import InstructXConfig, ReferencePosition
from ..denoiser import InstructXTransformer3DModel, build_denoiser
from ..encoder.context_encoder import ContextEncoder
from ..encoder.designs import build_encoder
from ..encoder.tokenizer import check_special_tokens, load_tokenizer
from ..vae import build_vae
from .containers.strict import check_tensor_names
from .layouts.adapter import read_adapter
from .layouts.checkpoints import open_dit, open_model
from .layouts.dit import read_dit
from .layouts.encoder import read_encoder
from .layouts.files import CheckpointFiles, PartPaths, files_of
from .layouts.lora import apply_lora
from .layouts.modules import empty_parameters
from .layouts.qwen_names import mllm_to_original
from .layouts.report import LoadReport
from .layouts.text_encoder import read_text_encoder
from .layouts.vae import read_vae
from .layouts.weight_file import OpenFiles, Paths, WeightFile, open_weights

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan


@dataclass(frozen=True)
class LoadAs:
    """How weights are wanted. merge_lora: the MLLM's LoRA folded in, not as layers to train on."""

    dtype: torch.dtype
    device: str | torch.device
    merge_lora: bool = True


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """The modules of a model. reports: what each weight file gave."""

    config: InstructXConfig
    vae: AutoencoderKLWan
    transformer: InstructXTransformer3DModel
    encoder: ContextEncoder
    tokenizer: Tokenizer
    reports: tuple[LoadReport, ...]


def read_model(
    source: str | Path | CheckpointFiles | None,
    name: str | None,
    parts: PartPaths,
    wanted: LoadAs,
    position: ReferencePosition | None = None,
) -> LoadedModel:
    """The modules of the model that weights.load_pipeline describes, with the errors it names."""
    with OpenFiles() as opened:
        files = source if isinstance(source, CheckpointFiles) else files_of(source, name, parts, opened)
        tokenizer = load_tokenizer(files.tokenizer, of_mllm=False)  # before the long reads, so that it is missed early
        dit = open_dit(opened, files.denoiser)
        vae_file, qwen = opened.open(files.vae), opened.open(files.text_encoder)
        model = open_model(
            opened, files.adapter, text_encoder=files.text_encoder, denoiser=files.denoiser, vae=files.vae
        )
        adapter = read_adapter(model, position)
        config, reports = adapter.config, [adapter.report.log()]
        check_special_tokens(tokenizer, config)
        transformer, report = _denoiser(dit, config, adapter.tensors, wanted)
        reports.append(report)
        lora = model.layout.lora(opened, files.adapter)
        if lora is not None:
            reports.append(apply_lora(transformer, lora).log())
        vae, report = _vae(vae_file, config, wanted)
        reports.append(report)
        encoder, report = _encoder(qwen, config, adapter.tensors, wanted)
        reports.append(report)
    return LoadedModel(
        config=config,
        vae=vae,
        transformer=transformer,
        encoder=encoder,
        tokenizer=tokenizer,
        reports=tuple(reports),
    )


def load_denoiser(
    path: str | Path,
    config: InstructXConfig,
    adapter: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype = torch.bfloat16,
    device: str | torch.device = "cpu",
    packed: bool = False,
) -> InstructXTransformer3DModel:
    """The DiT from a Wan file plus, for a profile with own embedders, the tensors of an `adapter` (load_adapter).

    Norms, modulation and embedders stay fp32, as in diffusers. packed: as read_dit has it. Raises InputError when
    tensors do not fit.
    """
    with OpenFiles() as opened:
        return _denoiser(open_dit(opened, Path(path)), config, adapter, LoadAs(dtype, device), packed)[0]


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
        return _vae(file, config, LoadAs(dtype, device))[0]


def load_encoder(
    path: Paths,
    config: InstructXConfig,
    adapter: Mapping[str, Tensor],
    dtype: torch.dtype = torch.bfloat16,
    device: str | torch.device = "cpu",
    merge_lora: bool = True,
) -> ContextEncoder:
    """Encoder from a Qwen2.5-VL file and an adapter. merge_lora: fold LoRA into the weights, computed in fp32.

    merge_lora=False keeps LoRA layers, to train on. Raises InputError when tensors do not fit.
    """
    with open_weights(path) as file:
        return _encoder(file, config, adapter, LoadAs(dtype, device, merge_lora))[0]


def lora_state(encoder: ContextEncoder) -> dict[str, Tensor]:
    """LoRA of the MLLM that is still separate, by name in an adapter file."""
    return {mllm_to_original(name.removeprefix("mllm.")): value for name, value in encoder.lora_state_dict().items()}


def _denoiser(
    file: WeightFile,
    config: InstructXConfig,
    adapter: Mapping[str, Tensor] | None,
    wanted: LoadAs,
    packed: bool = False,
) -> tuple[InstructXTransformer3DModel, LoadReport]:
    with empty_parameters():
        model = build_denoiser(config)
    report = read_dit(model, file, config, adapter, wanted.dtype, wanted.device, packed)
    return model.to(device=wanted.device).eval(), report.log()


def _vae(file: WeightFile, config: InstructXConfig, wanted: LoadAs) -> tuple[AutoencoderKLWan, LoadReport]:
    with empty_parameters():
        model = build_vae(config.vae)
    report = read_vae(model, file, config, wanted.dtype, wanted.device)
    return model.to(device=wanted.device).eval(), report.log()


def _encoder(
    file: WeightFile, config: InstructXConfig, adapter: Mapping[str, Tensor], wanted: LoadAs
) -> tuple[ContextEncoder, LoadReport]:
    with empty_parameters():
        model = build_encoder(config)
    if model.text_encoder is not None:
        report = read_text_encoder(model, file, adapter, wanted.dtype, wanted.device)
        return model.to(device=wanted.device).eval(), report.log()
    report = read_encoder(model, file, config, adapter, wanted.dtype, wanted.device, wanted.merge_lora)
    lora = {name: value for name, value in adapter.items() if ".lora_" in name}
    if lora and not wanted.merge_lora:
        model.add_lora(config.lora)
        want = lora_state(model)
        check_tensor_names("adapter", lora, want)
        for name, value in want.items():
            value.copy_(lora[name])
    return model.to(device=wanted.device).eval(), report.log()
