"""Qwen2.5-VL-3B from any file that artists have -> the encoder's modules, with an adapter's LoRA folded in.

Files: the folder of the model hub (both generations of key names, shards with an index), one file (OmniGen2's ComfyUI
repackaging), fp8 through ../containers/quantised.py, GGUF of llama.cpp through llama_cpp.py. One tensor is read at a
time, so a load needs the memory of its result and of one layer. Needs neither diffusers nor peft: a ComfyUI node loads
an encoder with what its host has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from ...config import EMBEDDERS, InstructXConfig
from ...errors import InputError, some
from ..containers.strict import read_weight
from ..containers.tensor_source import TensorSource
from .mllm_lora import LoraLayer, lora_layers
from .modules import assign_tensors
from .public_models import QWEN_LICENCE, QWEN_NEEDED, QWEN_SIZES
from .qwen_config import check_encoder
from .qwen_names import mllm_from_original, mllm_to_original
from .report import LoadReport
from .weight_file import WeightFile


def read_encoder(
    module: nn.Module,
    file: WeightFile,
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
    file.agree(config, "mllm")
    check_encoder(file, config)
    layers = lora_layers(adapter, config)
    state, report = _read_mllm(file.plain, module, layers if merge_lora else {}, dtype, device)
    strangers = sorted(layer.stem for name, layer in layers.items() if f"mllm.{name}" not in state)
    if strangers:
        raise InputError(
            f"{len(strangers)} of {len(layers)} LoRA layers of the adapter are not in {file.path.name} "
            f"({some(strangers)}); use the files of one model"
        )
    parts = {k: v for k, v in adapter.items() if ".lora_" not in k and not k.endswith(".alpha")}
    parts = {k: v.to(device, dtype) for k, v in parts.items() if not k.startswith(EMBEDDERS)}
    assign_tensors(file.path, module, state | parts, _spelling)
    ranks = sorted({layer.down.shape[0] for layer in layers.values()})
    lora = f"LoRA of rank {', '.join(map(str, ranks))} on {len(layers)} layers" if layers else "no LoRA"
    kind, notes = f"{report.kind}, {file.numbers}", (*report.notes, f"adapter {config.name}: {lora}")
    return replace(report, kind=kind, notes=notes)


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
    places = mllm_places(source, module)
    consumed, kept = list(places.values()), set(places.values())
    ignored = [key for key in source.keys() if key not in kept]  # the lm_head, or something beside the model
    state = {f"mllm.{name}": _read(source, key, layers.get(name), dtype, device) for name, key in places.items()}
    widths = {source.shape(key)[-1] for key in consumed if key.endswith("embed_tokens.weight")}
    size = QWEN_SIZES.get(widths.pop()) if widths else None
    title = f"Qwen2.5-VL-{size}" if size else "Qwen2.5-VL of no public size"
    notes = (QWEN_LICENCE,) if size == QWEN_NEEDED else ()
    return state, LoadReport(
        files=source.files, kind=title, consumed=tuple(consumed), ignored=tuple(ignored), notes=notes
    )


def mllm_places(source: TensorSource, module: nn.Module) -> dict[str, str]:
    """Name in Qwen2_5_VLModel -> name in the file; nothing is read.

    module: an encoder. Raises InputError for a tensor of another shape than there, or under two spellings.
    """
    want = {name.removeprefix("mllm."): tuple(value.shape) for name, value in module.state_dict().items()}
    places: dict[str, str] = {}
    for key in source.keys():
        name = mllm_from_original(key)
        if name is None or not name.startswith(("language_model.", "visual.")):
            continue
        if name in places:
            raise InputError(f"{source.path.name}: {key} appears under two spellings; use a file of one layout")
        if name in want and want[name] != source.shape(key):
            raise InputError(
                f"{source.path.name}: {key} is {source.shape(key)}, expected {want[name]}; use the file of this model"
            )
        places[name] = key
    return places


def _read(
    source: TensorSource, key: str, layer: LoraLayer | None, dtype: torch.dtype, device: str | torch.device
) -> Tensor:
    if layer is None:
        return read_weight(source, key, device, dtype)
    return layer.merged_into(read_weight(source, key, device, torch.float32)).to(dtype)
