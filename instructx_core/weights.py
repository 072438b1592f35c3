"""Checkpoints on disk <-> InstructXPipeline: saved in the layout of a ComfyUI model folder, loaded from it, from
Kiwi-Edit's files, and from base Wan and Qwen files with an adapter (formats/loading.py, which opens each file once).

Every file that we save carries the InstructXConfig in its metadata; the adapter's one decides, the others must agree
where present.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from .config import EMBEDDERS, InstructXConfig, ReferencePosition
from .denoiser import InstructXTransformer3DModel
from .encoder.context_encoder import ContextEncoder
from .encoder.tokenizer import backend
from .errors import InputError
from .formats.containers.writing import whole_folder, write_weights
from .formats.layouts.files import CheckpointFiles, PartPaths, find_files
from .formats.layouts.folders import FOLDERS, SHIPPED, TOKENIZER_FILE
from .formats.layouts.keymaps import dit_to_original, vae_to_original
from .formats.layouts.qwen_names import mllm_to_original
from .formats.layouts.text_encoder import text_encoder_state
from .formats.layouts.weight_file import config_metadata
from .formats.loading import LoadAs, lora_state, read_model
from .pipeline import InstructXPipeline
from .precision import usual_dtype
from .sampling.schedule import build_scheduler

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan
    from transformers import PreTrainedTokenizerBase
    from typing_extensions import Unpack


# --- save ----------------------------------------------------------------------------------------------------------


class Saveable(Protocol):
    """What a checkpoint is made of: an InstructXPipeline, or any object with these parts."""

    vae: AutoencoderKLWan
    transformer: InstructXTransformer3DModel
    encoder: ContextEncoder
    tokenizer: PreTrainedTokenizerBase


def adapter_state(encoder: ContextEncoder, transformer: InstructXTransformer3DModel) -> dict[str, Tensor]:
    """Every tensor of the adapter file: what InstructX adds to Qwen2.5-VL and Wan."""
    own = ("queries.", "connector.", "reference_connector.", "text_encoder.widen.")
    state = {name: value for name, value in encoder.state_dict().items() if name.startswith(own)}
    state |= {name: value for name, value in transformer.state_dict().items() if name.startswith(EMBEDDERS)}
    return state | lora_state(encoder)


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
    if encoder.mllm is None:
        words = text_encoder_state(encoder)
    else:
        mllm = {key: value for key, value in encoder.mllm.state_dict().items() if ".lora_" not in key}
        words = {mllm_to_original(key): value for key, value in mllm.items()}
    parts = {
        "denoiser": {dit_to_original(key): value for key, value in dit.items()},
        "vae": {vae_to_original(key, config.vae): value for key, value in pipeline.vae.state_dict().items()},
        "text_encoder": words,
        "adapter": adapter_state(encoder, transformer),
    }
    with whole_folder(folder, (*FOLDERS.values(), TOKENIZER_FILE)) as temporary:
        for part, tensors in parts.items():
            write_weights(temporary / FOLDERS[part] / file, tensors, config_metadata(config), dtype)
        backend(pipeline.tokenizer).save(str(temporary / TOKENIZER_FILE))
    return find_files(folder)


# --- load ----------------------------------------------------------------------------------------------------------


def load_pipeline(
    source: str | Path | CheckpointFiles | None = None,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    name: str | None = None,
    merge_lora: bool = True,
    *,
    reference_position: ReferencePosition | None = None,
    **parts: Unpack[PartPaths],
) -> InstructXPipeline:
    """A pipeline from a folder in ComfyUI's layout, a Kiwi-Edit folder or training file, or (None) the shipped `tiny`.

    denoiser, vae, text_encoder, adapter, tokenizer: files or folders for what `source` does not hold, or instead of it;
    without source all of them. dtype: default fp32 on the CPU, bf16 elsewhere. name: X, when a folder holds several
    models. reference_position: overrides what a Kiwi-Edit config or file name says. What each file gave is in the
    result's `load_reports` and in the log, with the licences. Raises InputError on anything missing, damaged, of
    another profile or size, in an unknown quantisation, pickled or not finite.
    """
    from transformers import PreTrainedTokenizerFast

    device = torch.device(device)
    dtype = dtype or usual_dtype(device)
    if source is None and not any(parts.values()):
        source = SHIPPED
    model = read_model(source, name, parts, LoadAs(dtype, device, merge_lora), reference_position)
    pipeline = InstructXPipeline(
        vae=model.vae,
        transformer=model.transformer,
        encoder=model.encoder,
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=model.tokenizer),
        scheduler=build_scheduler(model.config),
        instructx=model.config,
    )
    pipeline.load_reports = model.reports
    return pipeline
