"""What a model costs: parameters, tokens, FLOPs and bytes of one edit, without any weights (fake tensors).

Paper Table 7 gives the size as 14B (DiT) + 0.6B (MLLM LoRA); `edit_costs(paper_14b())` counts both from the modules.
FLOPs are counted by torch while the modules run on fake tensors of the real shapes: 2 a multiply-add, only matrix
products, convolutions and attention.
Legend: F pixel frames, T latent frames, H W pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..config import InstructXConfig
from ..denoiser import build_denoiser
from ..encoder.designs import build_encoder
from ..encoder.inputs import EncoderInputs, query_set_of
from ..encoder.t5 import TextInputs
from ..geometry import dit_tokens, latent_frames, latent_size, mllm_grid
from ..vae import build_vae
from .count import Cost, cost_of, fake_tensors

TEXT_TOKENS = 64  # template and a typical instruction; 1-2 % of the MLLM's sequence
TILE = 256  # pixels, diffusers' own tile of this VAE
BYTES = {"fp32": 4, "bf16": 2, "fp8": 1}
_SCOPE_PREFIX = {"mllm": "", "language_model": "language_model."}


def count(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def lora_parameters(mllm: nn.Module, config: InstructXConfig) -> int:
    """Parameters of the LoRA that config.lora describes: rank x (in + out) over the linears it names in its scope."""
    weights = (mllm.get_parameter(f"{name}.weight") for name in lora_targets(mllm, config))
    return sum(config.lora.rank * sum(weight.shape) for weight in weights)


def lora_targets(mllm: nn.Module, config: InstructXConfig) -> list[str]:
    """Names of the linears that get a LoRA."""
    prefix = _SCOPE_PREFIX[config.lora.scope]
    return [
        name
        for name, module in mllm.named_modules()
        if name.startswith(prefix) and name.split(".")[-1] in config.lora.targets and isinstance(module, nn.Linear)
    ]


def empty_inputs(
    config: InstructXConfig, grid: tuple[int, int, int], modality: str, vision_tokens: int
) -> EncoderInputs:
    """Inputs of the right shapes; the values do not matter for counting."""
    vision = config.mllm.vision
    queries = config.appended_queries(modality)
    length = TEXT_TOKENS + vision_tokens + queries
    values = 3 * vision.temporal_patch_size * vision.patch_size**2
    return EncoderInputs(
        input_ids_BL=torch.empty(1, length, dtype=torch.long),
        attention_mask_BL=torch.empty(1, length, dtype=torch.bool),
        position_ids_3BL=torch.empty(3, 1, length, dtype=torch.long),
        patches_BSP=torch.empty(1, vision_tokens * vision.spatial_merge_size**2, values),
        grid=grid,
        reference_patches_BSP=None,
        reference_grid=None,
        vision_start=1,
        reference_starts=(),
        query_start=length - queries - 1,
        query_count=queries,
        query_set=query_set_of(config, modality, has_reference=False),
        modality=modality,
        temporal_step=1.0,
        padded=False,
    )


def empty_texts(config: InstructXConfig) -> TextInputs:
    """Inputs of the design that reads the instruction alone."""
    shape = (1, config.design.t5.length)
    return TextInputs(torch.empty(shape, dtype=torch.long), torch.empty(shape, dtype=torch.bool))


def _vae_costs(vae: Any, latents: int, height: int, width: int) -> tuple[Cost, Cost]:
    """(encode, decode). The causal VAE works in chunks, the first of one frame, the others of four and all alike.

    Memory then grows by what is done (moments, pixels) and by copies of the whole input (patches, 1x1 convolution).
    """
    dtype = next(vae.parameters()).dtype
    h, w = height // vae.config.scale_factor_spatial, width // vae.config.scale_factor_spatial
    encode, decode = [], []
    for frames in range(1, min(latents, 3) + 1):
        pixels = torch.empty(1, 3, 4 * (frames - 1) + 1, height, width, dtype=dtype)
        latent = torch.empty(1, vae.config.z_dim, frames, h, w, dtype=dtype)
        encode.append(cost_of(lambda pixels=pixels: vae.encode(pixels)))
        decode.append(cost_of(lambda latent=latent: vae.decode(latent)))
    pixel, cell = 4 * 3 * height * width * dtype.itemsize, vae.config.z_dim * h * w * dtype.itemsize
    patches = 0 if vae.config.patch_size is None else pixel
    return _extend(encode, latents, patches + 2 * cell), _extend(decode, latents, pixel + cell)


def _extend(costs: list[Cost], latents: int, growth: int) -> Cost:
    """Cost of `latents` chunks from those of the first ones; growth: bytes that each further chunk leaves behind."""
    if latents <= len(costs):
        return costs[latents - 1]
    more, flops = latents - len(costs), costs[1].flops - costs[0].flops
    return Cost(costs[-1].flops + more * flops, costs[-1].peak + more * growth)


def _parameters(encoder: Any, denoiser: Any, vae: nn.Module, config: InstructXConfig) -> dict[str, int]:
    embedders = sum(count(m) for m in (denoiser.source_embedder, denoiser.reference_embedder) if m is not None)
    connectors = [m for m in (encoder.connector, encoder.reference_connector) if m is not None]
    return {
        "DiT": count(denoiser) - embedders,
        "MLLM": 0 if encoder.mllm is None else count(encoder.mllm),
        "MLLM LoRA": 0 if encoder.mllm is None else lora_parameters(encoder.mllm, config),
        "text encoder": 0 if encoder.text_encoder is None else count(encoder.text_encoder),
        "connector": sum(count(m) for m in connectors),
        "queries": sum(p.numel() for p in encoder.queries.values()),
        "own embedders": embedders,
        "VAE": count(vae),
    }


def edit_costs(config: InstructXConfig, frames: int, height: int, width: int) -> dict[str, Any]:
    """Parameters, tokens, FLOPs and bytes of one edit of F frames at height x width pixels, as plain numbers.

    Guidance as in config.sampling; bytes of parts and work are those of a bf16 run, one branch at a time.
    Raises InputError for a size the model cannot take.
    """
    modality = "image" if frames == 1 else "video"
    latents, (h, w) = latent_frames(frames, config.vae.scale_factor_temporal), latent_size(height, width, config)
    tokens = dit_tokens(frames, height, width, config)
    grid = mllm_grid(frames, height, width, config, modality)
    vision_tokens = grid[0] * grid[1] * grid[2] // config.mllm.vision.spatial_merge_size**2
    context_tokens, appended = config.context_length(modality), config.appended_queries(modality)
    dit, dtype = config.denoiser, torch.bfloat16
    with fake_tensors(dtype):
        encoder, denoiser, vae = build_encoder(config), build_denoiser(config), build_vae(config.vae)
        encoder.requires_grad_(False)
        sees = encoder.sees_pictures
        inputs = empty_inputs(config, grid, modality, vision_tokens).to(dtype=dtype) if sees else empty_texts(config)
        noise = torch.empty(1, dit.in_channels, latents, h, w, dtype=dtype)
        context = torch.empty(1, context_tokens, dit.context_dim, dtype=dtype)
        step = cost_of(lambda: denoiser(noise, torch.empty(1, dtype=torch.float32), context, noise))
        think = cost_of(lambda: encoder(inputs))
        encode, decode = _vae_costs(vae, latents, height, width)
        tile = (min(height, TILE), min(width, TILE))
        tiles = (encode, decode) if tile == (height, width) else _vae_costs(vae, latents, *tile)
    branches = 1 if config.sampling.guidance_scale == 1.0 else 2
    parameters = _parameters(encoder, denoiser, vae, config)
    parts = {"encoder": encoder, "DiT": denoiser, "DiT blocks": denoiser.blocks, "VAE": vae}
    inference = sum(n for name, n in parameters.items() if name != "MLLM LoRA")  # merged into the MLLM
    flops = {
        "DiT step": step.flops * branches,
        "DiT": config.sampling.num_steps * step.flops * branches,
        "encoder": branches * think.flops,
        "VAE encode": encode.flops,
        "VAE decode": decode.flops,
    }
    return {
        "name": config.name,
        "clip": {"frames": frames, "height": height, "width": width, "modality": modality},
        "parameters": parameters,
        "tokens": {
            "DiT": tokens,
            "context": context_tokens,
            "MLLM vision": sees * vision_tokens,
            "MLLM": sees * (TEXT_TOKENS + vision_tokens + appended),
            "DiT per reference": tokens // latents,
        },
        "latent": {"shape": [1, dit.in_channels, latents, h, w], "bytes_fp32": 4 * noise.numel()},
        "flops": {**flops, "total": sum(flops.values()) - flops["DiT step"]},
        "steps": config.sampling.num_steps,
        "branches": branches,
        "layers": dit.num_layers,
        "bytes": {
            "weights": {k: size * inference for k, size in BYTES.items()},
            "parts": {name: 2 * count(part) for name, part in parts.items()},
            "work": _work(think, step, (encode, decode), tiles, 3 * frames * height * width),
        },
    }


def _work(think: Cost, step: Cost, whole: tuple[Cost, Cost], tiles: tuple[Cost, Cost], pixels: int) -> dict[str, int]:
    """Largest bytes beside the weights, by stage; whole, tiles: (encode, decode) of the VAE. pixels: values of a clip.

    Pixels beside the VAE: fp32 and bf16 going in; bf16, its fp32 copy and the clamped result coming out.
    """
    parts = {"encoder": think.peak, "DiT step": step.peak}
    for name, (encode, decode) in (("VAE", whole), ("VAE tile", tiles)):
        parts[f"{name} encode"] = encode.peak + 6 * pixels
        parts[f"{name} decode"] = max(decode.peak, 8 * pixels) + 2 * pixels
    return parts
