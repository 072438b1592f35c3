"""Qwen2.5-VL-3B from any file that artists have -> the encoder's modules, with an adapter's LoRA folded in.

Files: the folder of the model hub (both generations of key names, shards with an index), one file (OmniGen2's ComfyUI
repackaging), fp8 through quantised.py, GGUF of llama.cpp through llama_cpp.py. One tensor is read at a time, so a load
needs the memory of its result and of one layer. Needs neither diffusers nor peft: a ComfyUI node loads an encoder with
what its host has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...config import InstructXConfig, MllmConfig, VisionConfig
from ...errors import InputError
from ..containers.opening import open_source, open_sources, read_json
from ..containers.quantised import dequantised, number_format
from ..containers.tensor_source import TensorSource
from ..containers.tensorfile import read_weight
from ..telling.report import LoadReport, some
from .encoder_weights import EMBEDDERS, agree, assign_tensors, mllm_from_original, mllm_to_original
from .llama_cpp import LlamaCppSource, with_hub_names

SIZES = {2048: "Qwen2.5-VL-3B", 3584: "Qwen2.5-VL-7B", 5120: "Qwen2.5-VL-32B", 8192: "Qwen2.5-VL-72B"}
LICENCE = "Qwen2.5-VL-3B: Qwen Research Licence, non-commercial use only"
COMPLETE_FILES = (
    "the folder Qwen/Qwen2.5-VL-3B-Instruct of the model hub, or qwen_2.5_vl_fp16.safetensors of OmniGen2's ComfyUI "
    "repackaging if it holds visual.* tensors (instructx inspect says)"
)
HEAD_DIM = 128  # of every size of Qwen2.5-VL; a config.json says otherwise for a model of your own
Paths = str | Path | Sequence[Path]
Number = TypeVar("Number", int, float)


def open_encoder(path: Paths) -> TensorSource:
    """The tensors of a Qwen2.5-VL as stored: one file, a folder of the hub, an index, or the list of its shards.

    GGUF files of llama.cpp get the hub's names; the vision tower of one is looked for beside it.
    """
    source = open_source(path) if isinstance(path, (str, Path)) else open_sources(path)
    try:
        return with_hub_names(source)
    except InputError:
        source.close()
        raise


def qwen_shapes(source: TensorSource) -> dict[str, tuple[int, ...]]:
    """Shapes by name in Qwen2_5_VLModel (language_model.*, visual.*); the lm_head is left out."""
    named = ((mllm_from_original(key), source.shape(key)) for key in source.keys())
    return {name: shape for name, shape in named if name is not None}


# --- the config of a file ------------------------------------------------------------------------------------------


def infer_mllm(source: TensorSource, config_file: Path | None = None) -> MllmConfig:
    """The MllmConfig of a Qwen2.5-VL: sizes from the shapes, the rest from a config.json, by default beside the file.

    Without one, heads of 128 and Qwen2.5-VL's own RoPE are taken. Raises InputError when the file is no Qwen2.5-VL.
    """
    shapes = qwen_shapes(source)
    _require_language_model(source, shapes)
    _require_vision_tower(source, shapes)
    beside = source.files[0].parent / "config.json"
    file = config_file or (beside if beside.is_file() else None)
    told = read_json(file) if file is not None else {}
    text: dict[str, Any] = {**told, **_table(told, "text_config")}
    try:
        return _from_shapes(shapes, text, _table(told, "vision_config"))
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"{source.path.name} is no Qwen2.5-VL that can be read ({error}); use {COMPLETE_FILES}"
        ) from None


def _table(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = told.get(name)
    return value if isinstance(value, dict) else {}


def _from_shapes(
    shapes: Mapping[str, tuple[int, ...]], text: Mapping[str, Any], tower: Mapping[str, Any]
) -> MllmConfig:
    usual, usual_tower = MllmConfig(), VisionConfig()
    layer, block = "language_model.layers.0", "visual.blocks.0"
    vocabulary, width = shapes["language_model.embed_tokens.weight"]
    queries, keys = (shapes[f"{layer}.self_attn.{name}_proj.weight"][0] for name in ("q", "k"))
    heads = _told(text, "num_attention_heads", queries // HEAD_DIM)
    rope = {**_table(text, "rope_scaling"), **_table(text, "rope_parameters")}
    patch = shapes["visual.patch_embed.proj.weight"]  # (width, 3, frames, height, width)
    depth = _count(shapes, r"visual\.blocks\.(\d+)\.")
    full = tower.get("fullatt_block_indexes", usual_tower.full_attention_blocks)
    vision = VisionConfig(
        depth=depth,
        hidden_size=patch[0],
        intermediate_size=shapes[f"{block}.mlp.gate_proj.weight"][0],
        num_heads=_told(tower, "num_heads", usual_tower.num_heads),
        patch_size=patch[3],
        temporal_patch_size=patch[2],
        spatial_merge_size=_told(tower, "spatial_merge_size", usual_tower.spatial_merge_size),
        window_size=_told(tower, "window_size", usual_tower.window_size),
        full_attention_blocks=tuple(int(index) for index in full if int(index) < depth),
        tokens_per_second=_told(tower, "tokens_per_second", usual_tower.tokens_per_second),
    )
    return MllmConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=shapes[f"{layer}.mlp.gate_proj.weight"][0],
        num_layers=_count(shapes, r"language_model\.layers\.(\d+)\."),
        num_heads=heads,
        num_kv_heads=keys * heads // queries,
        rope_theta=_told(rope, "rope_theta", _told(text, "rope_theta", usual.rope_theta)),
        mrope_section=tuple(rope.get("mrope_section", usual.mrope_section)),
        rms_norm_eps=_told(text, "rms_norm_eps", usual.rms_norm_eps),
        vision=vision,
    )


def _told(table: Mapping[str, Any], name: str, usual: Number) -> Number:
    """A number above 0 out of a config, of the type of `usual`. Raises ValueError for anything else."""
    value, kind = table.get(name, usual), type(usual)
    if type(value) not in (int, float) or not value > 0 or kind(value) != value:
        raise ValueError(f"{name} is {str(value)[:40]!r}")
    return kind(value)


def _count(shapes: Mapping[str, Any], pattern: str) -> int:
    found = (re.match(pattern, name) for name in shapes)
    return max(int(match[1]) + 1 for match in found if match)


def check_encoder(source: TensorSource, config: InstructXConfig) -> None:
    """Raises InputError when the file holds another Qwen than `config` needs. Reads shapes only."""
    shapes, want = qwen_shapes(source), config.mllm
    _require_language_model(source, shapes)
    width = shapes["language_model.embed_tokens.weight"][-1]
    if width != want.hidden_size:
        have, need = (f"width {w}{f' ({SIZES[w]})' if w in SIZES else ''}" for w in (width, want.hidden_size))
        raise InputError(
            f"{source.path.name} has {have}, but the adapter {config.name} needs {need}; choose that encoder, or an "
            "adapter made for this one"
        )
    _require_vision_tower(source, shapes)


def _require_language_model(source: TensorSource, shapes: Mapping[str, tuple[int, ...]]) -> None:
    if len(shapes.get("language_model.embed_tokens.weight", ())) != 2:
        raise InputError(
            f"{source.path.name} holds no language model (no embed_tokens); choose a Qwen2.5-VL file: {COMPLETE_FILES}"
        )


def _require_vision_tower(source: TensorSource, shapes: Mapping[str, tuple[int, ...]]) -> None:
    if not any(name.startswith("visual.") for name in shapes):
        if isinstance(source, LlamaCppSource):
            raise InputError(
                f"{source.path.name} has no vision tower, so it cannot see the source; put the mmproj file of the same "
                "model into its folder"
            )
        raise InputError(
            f"{source.path.name} has no vision tower (no visual.* tensors), so it cannot see the source; choose a "
            f"complete Qwen2.5-VL, not the language model alone: {COMPLETE_FILES}"
        )


# --- LoRA of the MLLM ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoraLayer:
    """down (rank, in) and up (out, rank) of one linear; what they add is scale * up @ down."""

    stem: str
    down: Tensor
    up: Tensor
    scale: float

    def merged_into(self, weight: Tensor) -> Tensor:
        """weight + scale * up @ down in fp32. Raises InputError when the shapes do not fit the weight."""
        down, up = (half.to(weight.device, torch.float32) for half in (self.down, self.up))
        if (up.shape[0], down.shape[1]) != tuple(weight.shape) or down.shape[0] != up.shape[1]:
            raise InputError(
                f"LoRA of {self.stem} is {tuple(up.shape)} x {tuple(down.shape)}; the layer is {tuple(weight.shape)}: "
                "use the adapter of this model"
            )
        return weight.float().addmm_(up, down, alpha=self.scale)


def lora_layers(adapter: Mapping[str, Tensor], config: InstructXConfig) -> dict[str, LoraLayer]:
    """Weight in Qwen2_5_VLModel -> its LoRA. Any rank, also one that differs by layer, and any set of layers.

    The scale is the config's alpha / rank; a layer with an alpha of its own in the file has that over its own rank.
    Raises InputError when a tensor lacks its partner or is no matrix.
    """
    layers = {}
    for stem in sorted({key.rpartition(".lora_")[0] for key in adapter if ".lora_" in key}):
        halves = []
        for half in ("A", "B"):
            tensor = adapter.get(f"{stem}.lora_{half}.weight")
            if tensor is None:
                raise InputError(f"{stem}.lora_{half}.weight is missing; use the whole adapter file")
            if tensor.ndim != 2:
                raise InputError(f"{stem}.lora_{half}.weight is {tuple(tensor.shape)}, no matrix; use another adapter")
            halves.append(tensor)
        alpha = adapter.get(f"{stem}.alpha")
        own = None if alpha is None else float(alpha.float()) / max(halves[0].shape[0], 1)
        scale = config.lora.alpha / config.lora.rank if own is None else own
        layers[f"{mllm_from_original(stem)}.weight"] = LoraLayer(stem, halves[0], halves[1], scale)
    return layers


# --- read ----------------------------------------------------------------------------------------------------------


def read_encoder(
    module: nn.Module,
    path: Paths,
    config: InstructXConfig,
    adapter: Mapping[str, Tensor],
    dtype: torch.dtype,
    device: str | torch.device = "cpu",
    merge_lora: bool = True,
) -> LoadReport:
    """Weights of a Qwen2.5-VL and an adapter into `module`, an encoder built under empty_parameters().

    merge_lora: fold LoRA into the weights, computed in fp32 and rounded once. Raises InputError when tensors do not
    fit, are not finite, or the file is of another model.
    """
    with open_encoder(path) as stored:
        for file in stored.files:
            agree(file, config, ("mllm",))
        check_encoder(stored, config)
        source = dequantised(stored)
        layers = lora_layers(adapter, config)
        state, report = _read_mllm(source, module, layers if merge_lora else {}, dtype, device)
        strangers = sorted(layer.stem for name, layer in layers.items() if f"mllm.{name}" not in state)
        if strangers:
            raise InputError(
                f"{len(strangers)} of {len(layers)} LoRA layers of the adapter are not in {source.path.name} "
                f"({some(strangers)}); use the files of one model"
            )
        parts = {k: v for k, v in adapter.items() if ".lora_" not in k and not k.endswith(".alpha")}
        parts = {k: v.to(device, dtype) for k, v in parts.items() if not k.startswith(EMBEDDERS)}
        assign_tensors(source.path, module, state | parts, _spelling)
        kind = f"{report.kind}, {number_format(stored)}"
    ranks = sorted({layer.down.shape[0] for layer in layers.values()})
    lora = f"LoRA of rank {', '.join(map(str, ranks))} on {len(layers)} layers" if layers else "no LoRA"
    return replace(report, kind=kind, notes=(*report.notes, f"adapter {config.name}: {lora}"))


def _spelling(name: str) -> str:
    return mllm_to_original(name.removeprefix("mllm.")) if name.startswith("mllm.") else name


def _read_mllm(
    source: TensorSource,
    module: nn.Module,
    layers: Mapping[str, LoraLayer],
    dtype: torch.dtype,
    device: str | torch.device,
) -> tuple[dict[str, Tensor], LoadReport]:
    """State of module.mllm, one tensor at a time, and the report. Shapes are compared before anything is read."""
    want = {name.removeprefix("mllm."): tuple(value.shape) for name, value in module.state_dict().items()}
    state: dict[str, Tensor] = {}
    consumed, ignored = [], []
    for key in source.keys():
        name = mllm_from_original(key)
        if name is None or not name.startswith(("language_model.", "visual.")):
            ignored.append(key)  # the lm_head, or something beside the model
            continue
        if f"mllm.{name}" in state:
            raise InputError(f"{source.path.name}: {key} appears under two spellings; use a file of one layout")
        if name in want and want[name] != source.shape(key):
            raise InputError(
                f"{source.path.name}: {key} is {source.shape(key)}, expected {want[name]}; use the file of this model"
            )
        state[f"mllm.{name}"] = _read(source, key, layers.get(name), dtype, device)
        consumed.append(key)
    widths = {source.shape(key)[-1] for key in consumed if key.endswith("embed_tokens.weight")}
    title = SIZES.get(widths.pop(), "Qwen2.5-VL of no public size") if widths else "Qwen2.5-VL"
    notes = (LICENCE,) if title == SIZES[2048] else ()
    return state, LoadReport(
        files=source.files, kind=title, consumed=tuple(consumed), ignored=tuple(ignored), notes=notes
    )


def _read(
    source: TensorSource, key: str, layer: LoraLayer | None, dtype: torch.dtype, device: str | torch.device
) -> Tensor:
    if layer is None:
        return read_weight(source, key, device, dtype)
    return layer.merged_into(read_weight(source, key, device, torch.float32)).to(dtype)
