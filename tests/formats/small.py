"""Tiny random Wan files for the tests of formats/: every layout of one DiT and of the two VAEs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from instructx_core.config import DenoiserConfig, InstructXConfig, VaeConfig, kiwi_5b, tiny

DIT = DenoiserConfig(dim=128, ffn_dim=192, num_layers=2, num_heads=1, text_dim=32)
VAE21 = VaeConfig(base_dim=8)
VAE22 = dataclasses.replace(kiwi_5b().vae, base_dim=8, decoder_base_dim=12)


def config(channels: int = 16) -> InstructXConfig:
    """A config of a DiT of width 128; 16 channels are Wan2.1's VAE, 48 Wan2.2's."""
    dit = dataclasses.replace(DIT, in_channels=channels, out_channels=channels)
    return dataclasses.replace(tiny(), name="small", denoiser=dit, vae=VAE22 if channels == 48 else VAE21)


def state(module: torch.nn.Module, rename: Callable[[str], str], seed: int = 0) -> dict[str, Tensor]:
    """Random weights of a module under new names; nothing is left at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            fan = parameter[0].numel() if parameter.ndim > 1 else 1
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.1 * noise if "gamma" in name or "norm" in name else noise / fan**0.5 * 0.7)
    return {rename(name): value.detach().clone() for name, value in module.state_dict().items()}


def save(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, str(path), metadata=metadata)
    return path


def quantise(tensors: Mapping[str, Tensor], keep: tuple[str, ...] = ("norm", "modulation", "patch_embedding")):
    """(name -> fp8 weight, name -> scale) of the matrices, and the rest as fp16: what a scaled file holds."""
    packed, scales, rest = {}, {}, {}
    for name, value in tensors.items():
        if value.ndim == 2 and not any(part in name for part in keep):
            scales[name] = value.abs().max() / 448
            packed[name] = (value / scales[name]).to(torch.float8_e4m3fn)
        else:
            rest[name] = value.half()
    return packed, scales, rest


def scaled(tensors: Mapping[str, Tensor], spelling: str = ".scale_weight") -> dict[str, Tensor]:
    """An fp8_scaled file, in the old (".scale_weight") or the new (".weight_scale") spelling."""
    packed, scales, rest = quantise(tensors)
    note = torch.tensor(list(b'{"format": "float8_e4m3fn"}'), dtype=torch.uint8)
    file = {**packed, **rest}
    for name, scale in scales.items():
        stem = name.removesuffix(".weight")
        file[stem + spelling] = scale
        if spelling == ".weight_scale":
            file[f"{stem}.comfy_quant"] = note
    if spelling == ".scale_weight":
        file["scaled_fp8"] = torch.empty(2, dtype=torch.float8_e4m3fn)
    return file


def described(file: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The new spelling with the formats in the file's metadata instead of tensors: (tensors, metadata)."""
    notes = {name: value for name, value in file.items() if name.endswith(".comfy_quant")}
    layers = {name.removesuffix(".comfy_quant"): json.loads(bytes(value.tolist())) for name, value in notes.items()}
    kept = {name: value for name, value in file.items() if name not in notes}
    return kept, {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})}


def unscaled(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `scaled` files hold, in fp32."""
    packed, scales, rest = quantise(tensors)
    return {name: value.float() for name, value in rest.items()} | {
        name: value.float() * scales[name] for name, value in packed.items()
    }


PACKED = ("fp8", "fp8_scaled old", "fp8_scaled new", "fp8_scaled metadata", "int8", "Q8_0", "Q4_0")


def packed(path: Path, kind: str, tensors: Mapping[str, Tensor]) -> tuple[Path, dict[str, Tensor]]:
    """A file of a kind of PACKED, or of another GGUF type, and its numbers in fp32. path: without its suffix."""
    file = path.with_suffix(".safetensors")
    if kind == "fp8":
        short = {name: value.to(torch.float8_e4m3fn) for name, value in tensors.items()}
        return save(file, short), {name: value.float() for name, value in short.items()}
    if kind.startswith("fp8_scaled"):
        stored, metadata = scaled(tensors, ".scale_weight" if "old" in kind else ".weight_scale"), None
        if "metadata" in kind:
            stored, metadata = described(stored)
        return save(file, stored, metadata), unscaled(tensors)
    if kind == "int8":
        return _int8(file, tensors)
    return _gguf(path.with_suffix(".gguf"), kind, tensors)


def _int8(path: Path, tensors: Mapping[str, Tensor]) -> tuple[Path, dict[str, Tensor]]:
    """int8 with a scale a row, as ComfyUI calls it int8_tensorwise."""
    matrices, _, rest = quantise(tensors)
    file, values = dict(rest), {name: value.float() for name, value in rest.items()}
    for name in matrices:
        weight, stem = tensors[name].float(), name.removesuffix(".weight")
        scale = weight.abs().amax(1, keepdim=True).clamp(min=1e-8) / 127
        file[name] = (weight / scale).round().to(torch.int8)
        file[f"{stem}.weight_scale"] = scale
        file[f"{stem}.comfy_quant"] = torch.tensor(list(b'{"format": "int8_tensorwise"}'), dtype=torch.uint8)
        values[name] = file[name].float() * scale
    return save(path, file), values


def _gguf(path: Path, kind: str, tensors: Mapping[str, Tensor]) -> tuple[Path, dict[str, Tensor]]:
    """As ComfyUI-GGUF's tools write it: matrices of the blocks packed, the rest fp32 in its own shape."""
    import gguf

    stored, values = {}, {}
    for name, value in tensors.items():
        block = kind if value.ndim == 2 and name.startswith("blocks.") else "F32"
        number = gguf.GGMLQuantizationType[block]
        data = gguf.quants.quantize(value.float().numpy(), number)
        stored[name] = (block, data)
        values[name] = torch.from_numpy(gguf.quants.dequantize(data, number)).reshape(value.shape)
    return write_gguf(path, stored), values


def write_gguf(
    path: Path,
    tensors: Mapping[str, tuple[str, Any]],
    arrays: Mapping[str, Sequence[int]] | None = None,
    architecture: str = "wan",
) -> Path:
    """A GGUF file. tensors: name -> (type, data as stored, numpy). arrays: metadata, e.g. shapes before a change.

    architecture: "clip" for a vision tower of llama.cpp, which is of the type mmproj.
    """
    import gguf

    writer = gguf.GGUFWriter(str(path), architecture)
    if architecture == "clip":
        writer.add_type("mmproj")
    for name, numbers in (arrays or {}).items():
        writer.add_array(name, list(numbers))
    for name, (kind, data) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def llama_cpp_names(
    state: Mapping[str, torch.Tensor], split: bool = True
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A Qwen2.5-VL as llama.cpp's converter lays it out: language model and tower, names by the package gguf.

    split: the tower's q, k and v apart, as its Qwen2VLVisionModel does it.
    """
    import gguf

    blocks = 1 + max(int(key.split(".")[2]) for key in state if key.startswith(("model.layers.", "visual.blocks.")))
    text_map = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2VL, blocks)
    tower_map = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, max(blocks, 3))  # mm.2 is known from 3 blocks on
    text, tower = {}, {}
    for key, value in state.items():
        stem, _, ending = key.rpartition(".")
        if not key.startswith("visual."):
            text[f"{text_map.get_name(stem)}.{ending}"] = value
        elif ".qkv" in key and split:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                tower[f"{tower_map.get_name(stem.replace('qkv', part))}.{ending}"] = rows
        elif "patch_embed" in key:
            name = f"{tower_map.get_name(stem)}.{ending}"
            tower |= {name: value[:, :, 0].contiguous(), f"{name}.1": value[:, :, 1].contiguous()}
        else:
            tower[f"{tower_map.get_name(stem)}.{ending}"] = value
    return text, tower


def llama_cpp_pair(folder: Path, state: Mapping[str, torch.Tensor], kind: str = "F32", split: bool = True) -> Path:
    """qwen.gguf and mmproj-qwen.gguf: matrices in `kind`, the rest in F32, as llama.cpp does it. Gives the first."""
    import gguf
    import numpy as np

    def stored(value: torch.Tensor) -> tuple[str, Any]:
        data = np.ascontiguousarray(value.float().numpy())
        if kind == "F32" or data.ndim != 2:
            return "F32", data
        return kind, gguf.quantize(data, gguf.GGMLQuantizationType[kind])

    folder.mkdir(parents=True, exist_ok=True)
    text, tower = llama_cpp_names(state, split)
    for name, part, architecture in (("mmproj-qwen", tower, "clip"), ("qwen", text, "qwen2vl")):
        path = folder / f"{name}.gguf"
        write_gguf(path, {key: stored(value) for key, value in part.items()}, architecture=architecture)
    return folder / "qwen.gguf"
