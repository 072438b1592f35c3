"""The small models and inputs on which showlab/Kiwi-Edit and we are compared: scripts/make_golden.py runs the former.

Weights are formulas of names and indices, so that two implementations get the same ones and no file is needed; the
numbers that came out of the reference are in tests/golden/. No code of that repository is here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from instructx_core.config import SYSTEM_PROMPT, InstructXConfig, VaeConfig, kiwi_5b, tiny
from instructx_core.encoder.designs import build_encoder
from instructx_core.encoder.model import InstructXEncoder
from instructx_core.encoder.tokenizer import train_tokenizer

FOLDER = Path(__file__).resolve().parents[1] / "golden"
CASES = ("image", "video", "long_video", "reference", "resized")
TEXTS = {
    "image": "Make the circle blue.",
    "video": "Remove the dog; keep the grass.",
    "long_video": "Turn it to winter \u2603",
    "reference": "Replace the cup with this one.",
    "resized": "Add a hat ",
}
DIT = {
    "dim": 48, "in_dim": 4, "ffn_dim": 64, "out_dim": 4, "text_dim": 8, "freq_dim": 16, "eps": 1e-6,
    "patch_size": [1, 2, 2], "num_heads": 2, "num_layers": 2,
}  # fmt: skip
DIT_INPUTS = {"noise": (1, 4, 2, 4, 6), "source": (1, 4, 2, 4, 6), "reference": (1, 4, 1, 4, 6), "context": (1, 5, 48)}
DIT_CASES = ("none", "last", "first", "rounded", "bf16")  # rounded, bf16: with the reference last
STEPS, SHIFT = 4, 5.0
VAE_CLIP = (1, 3, 5, 32, 32)
SIZES = ((720, 1280), (704, 1280), (480, 832), (1080, 1920), (333, 500), (1081, 607), (1024, 1024), (96, 2000))
LENGTHS = (1, 2, 9, 16, 17, 33, 81, 101)
RESIZED = ((144, 208), (240, 426), (288, 352), (112, 176), (720, 1280), (427, 241))  # each is resized, some twice
KINDS = ("image", "video", "reference")


def golden(name: str) -> dict[str, Any]:
    """tests/golden/kiwi_<name>.json."""
    return json.loads((FOLDER / f"kiwi_{name}.json").read_text(encoding="utf-8"))


# --- encoder -------------------------------------------------------------------------------------------------------


def byte_tokenizer():
    """256 bytes, the special tokens, no merges: the same ids under every release of tokenizers."""
    return train_tokenizer([], 256 + 26)


def small_config() -> InstructXConfig:
    """Kiwi-Edit's rules on a two-layer model: its prompt, sizes and slices, small widths."""
    base = tiny()
    mllm = dataclasses.replace(
        base.mllm,
        vocab_size=288,
        hidden_size=64,
        intermediate_size=96,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        vision=dataclasses.replace(
            base.mllm.vision, depth=2, hidden_size=48, intermediate_size=64, num_heads=2, full_attention_blocks=(1,)
        ),
    )
    rule = dataclasses.replace(
        base.instruction,
        num_image_queries=4,
        num_video_queries=6,
        num_reference_queries=5,
        query_slice="tail",
        mllm_frames=16,
        frame_rule="cap",
        video_size_factor=2,
        temporal_position_step="fixed",
        reference_in_context=True,
        reference_as_video=True,
        reference_suffix=" Use the reference input from last frame.",
        system_prompt=SYSTEM_PROMPT,
        min_pixels=100352,
        max_pixels=262144,
        max_image_pixels=16384 * 784,
        max_reference_pixels=28 * 28 * 768,
    )
    return dataclasses.replace(
        base, mllm=mllm, instruction=rule, denoiser=dataclasses.replace(base.denoiser, dim=32, num_heads=1)
    )


def fill(module: nn.Module) -> None:
    """Sets every parameter by a formula of its name and index, so that two implementations get the same weights."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            phase = zlib.crc32(name.encode()) % 1000 / 1000
            index = torch.arange(parameter.numel(), dtype=torch.float64)
            wave = torch.sin(index * (0.7 + phase) + 6.0 * phase).reshape(parameter.shape)
            if parameter.ndim == 1:
                value = 1.0 + 0.1 * wave if "norm" in name or "ln_q" in name else 0.1 * wave
            else:
                value = wave * (1.0 if "queries" in name else 1.5 / math.sqrt(parameter[0].numel()))
            parameter.copy_(value)


def picture(frames: int, height: int, width: int, seed: int) -> Tensor:
    """uint8 (frames, height, width, 3): smooth in space, moving."""
    f, y, x, c = torch.meshgrid(*(torch.arange(n) for n in (frames, height, width, 3)), indexing="ij")
    value = (y * (3 + seed) + x * 2 + f * 11 + c * 70 + (x * y) // 29) % 512
    return torch.where(value > 255, 511 - value, value).to(torch.uint8)


def case(name: str) -> tuple[Tensor, Tensor | None]:
    """Source frames (F, H, W, 3) and reference (H, W, 3) of a golden case."""
    return {
        "image": (picture(1, 84, 112, 0), None),
        "video": (picture(3, 224, 448, 1), None),
        "long_video": (picture(19, 336, 336, 2), None),
        "reference": (picture(4, 224, 504, 3), picture(1, 112, 140, 4)[0]),
        "resized": (picture(1, 90, 150, 5), None),
    }[name]


def textured(frames: int, height: int, width: int, seed: int) -> Tensor:
    """uint8 (frames, height, width, 3): edges and grain, on which two ways of resizing differ."""
    f, y, x, c = torch.meshgrid(*(torch.arange(n) for n in (frames, height, width, 3)), indexing="ij")
    grain = (x * 7919 + y * 104729 + f * 1299709 + c * 15485863 + seed * 32452843) % 251
    edges = ((x // 9 + y // 7 + f) % 2) * 140
    return ((grain // 2 + edges) % 256).to(torch.uint8)


def resized_case(kind: str, height: int, width: int) -> tuple[Tensor, Tensor | None]:
    """Source frames and reference, of which those of the kind have that size."""
    if kind == "reference":
        return textured(2, 112, 112, 1), textured(1, height, width, 2)[0]
    return textured(1 if kind == "image" else 3, height, width, 3), None


def digest(levels: Tensor) -> str:
    """Of uint8 (frames, height, width, 3) and its shape."""
    return hashlib.sha256(f"{tuple(levels.shape)}".encode() + levels.contiguous().numpy().tobytes()).hexdigest()


def small_encoder(config: InstructXConfig | None = None) -> InstructXEncoder:
    encoder = build_encoder(config or small_config()).eval()
    fill(encoder)
    return encoder


def run_lengths(values: list[int]) -> list[list[int]]:
    """[[value, count], ...]"""
    out: list[list[int]] = []
    for value in values:
        if out and out[-1][0] == value:
            out[-1][1] += 1
        else:
            out.append([value, 1])
    return out


# --- DiT and VAE ---------------------------------------------------------------------------------------------------


def formula(shape: tuple[int, ...], k: int) -> Tensor:
    """Numbers in [-1, 1) of tensor k: 2 frac(43758.5453 sin(12.9898 i + 78.233 k)) - 1, i from 1 in row-major order."""
    i = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)
    x = torch.sin(12.9898 * i + 78.233 * k) * 43758.5453
    return (2 * (x - x.floor()) - 1).reshape(shape)


def parameter(name: str, shape: tuple[int, ...], k: int) -> Tensor:
    """Weights of tensor k: near 1 for a norm, small for a bias, of unit gain for the rest."""
    u = formula(shape, k)
    if name.endswith("gamma") or ("norm" in name and name.endswith("weight")):
        return 1 + 0.1 * u
    if len(shape) == 1:
        return 0.1 * u
    return u * math.sqrt(3 / (shape[-1] if len(shape) == 3 else math.prod(shape[1:])))


def parameters(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """fp32 weights of a whole model; tensors are numbered from 1 in the order of their original names."""
    return {name: parameter(name, shapes[name], k).float() for k, name in enumerate(sorted(shapes), 1)}


def dit_inputs() -> dict[str, Tensor]:
    return {name: 1.7 * formula(shape, k).float() for k, (name, shape) in enumerate(DIT_INPUTS.items(), 1000)}


def vae_config(channels: int) -> VaeConfig:
    """The two Wan VAEs at a small width."""
    if channels == 16:
        return VaeConfig(base_dim=4)
    return dataclasses.replace(kiwi_5b().vae, base_dim=8, decoder_base_dim=8)


def vae_clip() -> Tensor:
    return formula(VAE_CLIP, 2000).float()


def samples(tensor: Tensor, count: int = 97) -> list[float]:
    """About `count` values spread over a tensor, in fp64."""
    flat = tensor.detach().double().flatten()
    return flat[:: max(1, flat.numel() // count)][:count].tolist()
