"""Weights of the encoder: a Qwen2.5-VL file + an adapter -> an encoder module, with LoRA folded in.

Needs neither diffusers nor peft, so that a ComfyUI node loads an encoder with what the host has. weights.py builds the
whole pipeline on top of it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from .config import InstructXConfig
from .errors import InputError
from .tensorfile import check_names, open_tensors, read_config, read_tensors, some

EMBEDDERS = ("source_embedder.", "reference_embedder.")
_SIZES = {2048: " (Qwen2.5-VL-3B)", 3584: " (Qwen2.5-VL-7B)", 5120: " (Qwen2.5-VL-32B)", 8192: " (Qwen2.5-VL-72B)"}


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


def check_qwen(files: Sequence[Path], config: InstructXConfig) -> None:
    """Raises InputError when the files hold another Qwen than `config` needs. Reads their headers only."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        with open_tensors(file) as handle:
            for key in handle.keys():
                shapes[mllm_from_original(key) or key] = tuple(handle.get_slice(key).get_shape())
    name, want = files[0].name, config.mllm
    table = shapes.get("language_model.embed_tokens.weight")
    if table is None:
        raise InputError(f"{name} holds no language model (no embed_tokens); choose a Qwen2.5-VL file")
    if table[-1] != want.hidden_size:
        have, need = (f"width {width}{_SIZES.get(width, '')}" for width in (table[-1], want.hidden_size))
        raise InputError(
            f"{name} has {have}, but the adapter {config.name} needs {need}; choose that encoder, or an adapter made "
            "for this one"
        )
    if not any(key.startswith("visual.") for key in shapes):
        raise InputError(
            f"{name} has no vision tower (no visual.* tensors), so it cannot see the source; choose a complete "
            "Qwen2.5-VL file, not one of the language model alone"
        )


def read_encoder(
    module: nn.Module,
    path: str | Path | Sequence[Path],
    config: InstructXConfig,
    adapter: Mapping[str, Tensor],
    dtype: torch.dtype,
    device: str | torch.device = "cpu",
    merge_lora: bool = True,
) -> int:
    """Weights of a Qwen2.5-VL file (or its shards) and an adapter into `module`, built under empty_parameters().

    merge_lora: fold LoRA into the weights, computed in fp32. Returns the number of layers with LoRA. Raises InputError
    when tensors do not fit.
    """
    files = [Path(path)] if isinstance(path, (str, Path)) else list(path)
    for file in files:
        agree(file, config, ("mllm",))
    check_qwen(files, config)
    lora = {k: v for k, v in adapter.items() if ".lora_" in k}
    targets = _lora_targets(lora)
    merged = targets if merge_lora else {}

    def dtype_of(name: str) -> torch.dtype | None:
        return None if name in merged else dtype

    base: dict[str, Tensor] = {}
    for file in files:
        base |= read_tensors(file, mllm_from_original, device, dtype_of)
    strangers = sorted(stem for target, stem in targets.items() if target not in base)
    if strangers:
        raise InputError(
            f"{len(strangers)} of {len(targets)} LoRA layers of the adapter are not in {files[0].name} "
            f"({some(strangers)}); use the files of one model"
        )
    for target, stem in merged.items():
        base[target] = _merged(base[target], stem, lora, config).to(dtype)
    rest = {k: v.to(device) for k, v in adapter.items() if k not in lora and not k.startswith(EMBEDDERS)}
    state = {f"mllm.{k}": v for k, v in base.items()} | rest
    assign_tensors(files[0], module, {k: v.to(dtype) for k, v in state.items()}, _encoder_spelling)
    return len(targets)


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
