"""Checkpoints on disk <-> InstructXPipeline, in the layout of a ComfyUI model folder.

    <folder>/diffusion_models/X.safetensors  the DiT, original Wan names: any Wan loader takes it
             vae/X.safetensors               the VAE, original Wan names
             text_encoders/X.safetensors     Qwen2.5-VL, names of its original repository (model.*, visual.*)
             model_patches/X.safetensors     the adapter: queries, connector, own embedders, LoRA of the MLLM
             tokenizer.json
Every file carries the InstructXConfig in its metadata; the adapter's one decides, the others must agree where present.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .config import InstructXConfig
from .denoiser import InstructXTransformer3DModel, build_denoiser
from .errors import InputError
from .instruction import InstructXEncoder, build_encoder
from .keymaps import dit_to_diffusers, dit_to_original, is_diffusers_dit, vae_to_diffusers, vae_to_original
from .pipeline import InstructXPipeline
from .schedule import build_scheduler
from .tensorfile import (
    check_names,
    empty_parameters,
    read_config,
    read_tensors,
    whole_folder,
    write_tensors,
)
from .tokenizer import backend, load_tokenizer
from .vae import build_vae

SHIPPED = Path(__file__).parent / "assets" / "tiny"
FOLDERS = {
    "denoiser": "diffusion_models",
    "vae": "vae",
    "text_encoder": "text_encoders",
    "adapter": "model_patches",
}
TOKENIZER_FILE = "tokenizer.json"
EMBEDDERS = ("source_embedder.", "reference_embedder.")
_WRAPPERS = re.compile(r"^(model\.diffusion_model|diffusion_model)\.")  # of single-file repackagings


@dataclass(frozen=True, kw_only=True)
class CheckpointFiles:
    """The four weight files and the tokenizer of one model, wherever they lie."""

    denoiser: Path
    vae: Path
    text_encoder: Path
    adapter: Path
    tokenizer: Path


def find_files(folder: str | Path, name: str | None = None) -> CheckpointFiles:
    """The files of a folder in the shipped layout. `name` (X) is needed when a subfolder holds several.

    Raises InputError naming what is missing or ambiguous.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"no folder {root}; give a folder with {', '.join(FOLDERS.values())}")
    found = {}
    for part, sub in FOLDERS.items():
        pattern = "*.safetensors" if name is None else f"{name}.safetensors"
        files = sorted((root / sub).glob(pattern))
        if not files:
            raise InputError(f"no {sub}/{pattern} in {root}; a checkpoint needs one file in each of its folders")
        if len(files) > 1:
            names = ", ".join(file.stem for file in files)
            raise InputError(f"{root / sub} holds several files ({names}); pick one with name=")
        found[part] = files[0]
    return CheckpointFiles(**found, tokenizer=root / TOKENIZER_FILE)


# --- names ---------------------------------------------------------------------------------------------------------


def denoiser_name(key: str) -> str:
    """Name in a file -> name in InstructXTransformer3DModel: original or diffusers spelling, wrapped or not."""
    bare = _WRAPPERS.sub("", key)
    return bare if is_diffusers_dit(bare) else dit_to_diffusers(bare)


def mllm_to_original(key: str) -> str:
    """Name in Qwen2_5_VLModel -> the original repository's (model.*, visual.*); LoRA's base layers are unwrapped."""
    return re.sub(r"^language_model\.", "model.", key).replace(".base_layer.", ".")


def mllm_from_original(key: str) -> str | None:
    """The original repository's name, or transformers' newer one -> name in Qwen2_5_VLModel; None for the lm_head."""
    if key.startswith("lm_head."):
        return None
    key = re.sub(r"^model\.(language_model|visual)\.", r"\1.", key)
    return re.sub(r"^model\.", "language_model.", key)


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


def _agree(path: Path, config: InstructXConfig, fields: tuple[str, ...]) -> None:
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


def _assign(file: Path, module: nn.Module, state: dict[str, Tensor], spell: Callable[[str], str]) -> None:
    """Strict load into a module of empty parameters. Messages use the file's spelling."""
    want = module.state_dict()
    check_names(file.name, {spell(k): v for k, v in state.items()}, {spell(k): v for k, v in want.items()})
    module.load_state_dict(state, strict=True, assign=True)


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
    file = Path(path)
    _agree(file, config, ("denoiser",))
    fp32 = InstructXTransformer3DModel._keep_in_fp32_modules

    def dtype_of(name: str) -> torch.dtype:
        return torch.float32 if any(part in name.split(".") for part in fp32) else dtype

    state = read_tensors(file, denoiser_name, device, dtype_of)
    own = {name: value for name, value in (adapter or {}).items() if name.startswith(EMBEDDERS)}
    state |= {name: value.to(device, torch.float32) for name, value in own.items()}
    with empty_parameters():
        model = build_denoiser(config)
    _assign(file, model, state, lambda key: key if key.startswith(EMBEDDERS) else dit_to_original(key))
    return model.to(device=device).eval()


def load_vae(
    path: str | Path,
    config: InstructXConfig,
    dtype: torch.dtype = torch.bfloat16,
    device: str | torch.device = "cpu",
) -> Any:
    """AutoencoderKLWan from a file in original Wan names."""
    file = Path(path)
    _agree(file, config, ("vae",))
    state = read_tensors(file, lambda key: vae_to_diffusers(key, config.vae), device, lambda name: dtype)
    with empty_parameters():
        model = build_vae(config.vae)
    _assign(file, model, state, lambda key: vae_to_original(key, config.vae))
    return model.to(device=device).eval()


def read_adapter(path: str | Path, config: InstructXConfig | None = None) -> dict[str, Tensor]:
    """Tensors of an adapter file, as stored. Raises InputError when it is not one, or of another profile."""
    own = adapter_config(path)
    if config is not None and config != own:
        _agree(Path(path), config, tuple(f.name for f in dataclasses.fields(config)))
    return read_tensors(path)


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
    file = Path(path)
    _agree(file, config, ("mllm",))
    lora = {k: v for k, v in adapter.items() if ".lora_" in k}
    targets = _lora_targets(lora) if merge_lora else {}
    base = read_tensors(file, mllm_from_original, device, lambda name: None if name in targets else dtype)
    for target, stem in targets.items():
        if target not in base:
            raise InputError(f"LoRA tensor {stem} has no layer in {file.name}; use the files of one model")
        base[target] = _merged(base[target], stem, lora, config).to(dtype)
    rest = {k: v.to(device) for k, v in adapter.items() if k not in lora and not k.startswith(EMBEDDERS)}
    with empty_parameters():
        model = build_encoder(config)
    state = {f"mllm.{k}": v for k, v in base.items()} | rest
    _assign(file, model, {k: v.to(dtype) for k, v in state.items()}, _encoder_spelling)
    if lora and not merge_lora:
        model.add_lora(config.lora)
        names = {k: k.removeprefix("mllm.") for k in model.lora_state_dict()}
        want = {mllm_to_original(v): model.lora_state_dict()[k] for k, v in names.items()}
        check_names("adapter", lora, want)
        for k, value in want.items():
            value.copy_(lora[k])
    return model.to(device=device).eval()


def _encoder_spelling(key: str) -> str:
    return mllm_to_original(key.removeprefix("mllm.")) if key.startswith("mllm.") else key


def _lora_targets(lora: Mapping[str, Tensor]) -> dict[str, str]:
    """Weight in Qwen2_5_VLModel -> LoRA stem. Raises InputError when a tensor lacks its partner."""
    stems = {name.rpartition(".lora_")[0] for name in lora}
    for stem in sorted(stems):
        for half in ("A", "B"):
            if f"{stem}.lora_{half}.weight" not in lora:
                raise InputError(f"{stem}.lora_{half}.weight is missing; use the whole adapter file")
    return {f"{mllm_from_original(stem)}.weight": stem for stem in stems}


def _merged(weight: Tensor, stem: str, lora: Mapping[str, Tensor], config: InstructXConfig) -> Tensor:
    """W + (alpha / rank) B A in fp32. Raises InputError when the shapes do not fit the weight or the config's rank."""
    down, up = (lora[f"{stem}.lora_{half}.weight"].to(weight.device, torch.float32) for half in ("A", "B"))
    shapes = (up.shape[0], down.shape[1]), (down.shape[0], up.shape[1])
    if shapes != (tuple(weight.shape), (config.lora.rank, config.lora.rank)):
        raise InputError(
            f"LoRA of {stem} is {tuple(up.shape)} x {tuple(down.shape)}; the layer is {tuple(weight.shape)} and the "
            f"rank {config.lora.rank}: use the adapter of this model"
        )
    return weight.float() + (config.lora.alpha / config.lora.rank) * (up @ down)


def load_pipeline(
    source: str | Path | CheckpointFiles | None = None,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    name: str | None = None,
    merge_lora: bool = True,
) -> InstructXPipeline:
    """A pipeline from a folder in the shipped layout, from single files, or (None) the shipped `tiny` model.

    dtype: default fp32 on the CPU, bf16 elsewhere. name: X, when a folder holds several models.
    Raises InputError on anything missing, damaged, of another profile or size, quantised, pickled or not finite.
    """
    from transformers import PreTrainedTokenizerFast

    files = source if isinstance(source, CheckpointFiles) else find_files(source or SHIPPED, name)
    device = torch.device(device)
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
    config = adapter_config(files.adapter)
    adapter = read_adapter(files.adapter)
    return InstructXPipeline(
        vae=load_vae(files.vae, config, dtype, device),
        transformer=load_denoiser(files.denoiser, config, adapter, dtype, device),
        encoder=load_encoder(files.text_encoder, config, adapter, dtype, device, merge_lora),
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=load_tokenizer(files.tokenizer)),
        scheduler=build_scheduler(config),
        instructx=config,
    )
