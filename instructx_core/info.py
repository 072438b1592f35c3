"""What a model costs: parameters, tokens, FLOPs and bytes of one edit, without any weights (fake tensors).

Paper Table 7 gives the size as 14B (DiT) + 0.6B (MLLM LoRA); `measure(paper_14b())` counts both from the modules.
FLOPs are counted by torch while the modules run on fake tensors of the real shapes: 2 a multiply-add, only matrix
products, convolutions and attention.
Legend: F pixel frames, T latent frames, H W pixels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .config import InstructXConfig, preset
from .denoiser import build_denoiser
from .geometry import dit_tokens, latent_frames, latent_size, mllm_grid
from .instruction import EncoderInputs, build_encoder
from .positions import sequence_positions
from .vae import build_vae
from .vision import vision_plan

# Width, height, frames that a preset is usually run at: 5 s of 480p, of 720p, and one clip of `shapes`.
USUAL_CLIP = {"paper_14b": (832, 480, 81), "kiwi_5b": (1280, 704, 81), "tiny": (64, 64, 17)}
TEXT_TOKENS = 64  # template and a typical instruction; 1-2 % of the MLLM's sequence
BYTES = {"fp32": 4, "bf16": 2, "fp8": 1}
_SCOPE_PREFIX = {"mllm": "", "language_model": "language_model."}


def count(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def lora_parameters(mllm: nn.Module, config: InstructXConfig) -> int:
    """Parameters of the LoRA that config.lora describes: rank x (in + out) over the linears it names in its scope."""
    prefix = _SCOPE_PREFIX[config.lora.scope]
    total = 0
    for name, module in mllm.named_modules():
        if name.startswith(prefix) and name.split(".")[-1] in config.lora.targets and isinstance(module, nn.Linear):
            total += config.lora.rank * (module.in_features + module.out_features)
    return total


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Inside, tensors on the CPU have shapes and no values: the largest model is built and run in no memory.

    Not the meta device: transformers 4.57 enters torch.autocast for it, which torch 2.6 refuses.
    """
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:  # these must not keep a fake tensor for the next real clip of the same size
        vision_plan.cache_clear()
        sequence_positions.cache_clear()


def _flops(call: Any) -> int:
    # the counter knows the two products of plain attention, not the CPU's fused kernel
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return counter.get_total_flops()


def _encoder_inputs(
    config: InstructXConfig, grid: tuple[int, int, int], modality: str, vision_tokens: int
) -> EncoderInputs:
    """Inputs of the right shapes; the values do not matter for counting."""
    vision = config.mllm.vision
    queries = config.instruction.query_count(modality)
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
        query_set=modality,
        modality=modality,
        temporal_step=1.0,
        padded=False,
    )


def _vae_flops(vae: Any, latents: int, height: int, width: int) -> tuple[int, int]:
    """(encode, decode). The causal VAE works in chunks, the first of one frame, the others of four and all alike."""
    encode, decode = [], []
    for frames in (1, 2):
        pixels = torch.empty(1, 3, 4 * (frames - 1) + 1, height, width)
        h, w = height // vae.config.scale_factor_spatial, width // vae.config.scale_factor_spatial
        latent = torch.empty(1, vae.config.z_dim, frames, h, w)
        encode.append(_flops(lambda pixels=pixels: vae.encode(pixels)))
        decode.append(_flops(lambda latent=latent: vae.decode(latent)))
    first, chunk = zip(encode, decode, strict=True)
    return tuple(a + (latents - 1) * (b - a) for a, b in zip(first, chunk, strict=True))  # type: ignore[return-value]


def _parameters(encoder: Any, denoiser: Any, vae: nn.Module, config: InstructXConfig) -> dict[str, int]:
    own = [m for m in (denoiser.source_embedder, denoiser.reference_embedder) if m is not None]
    embedders = sum(count(m) for m in own)
    connectors = [m for m in (encoder.connector, encoder.reference_connector) if m is not None]
    return {
        "DiT": count(denoiser) - embedders,
        "MLLM": count(encoder.mllm),
        "MLLM LoRA": lora_parameters(encoder.mllm, config),
        "connector": sum(count(m) for m in connectors),
        "queries": sum(p.numel() for p in encoder.queries.values()),
        "own embedders": embedders,
        "VAE": count(vae),
    }


def measure(config: InstructXConfig, frames: int, height: int, width: int) -> dict[str, Any]:
    """Parameters, tokens, FLOPs and bytes of one edit of F frames at height x width pixels, as plain numbers.

    Guidance as in config.sampling. `activations` is an estimate: the largest tensors alive in one DiT block at bf16.
    Raises InputError for a size the model cannot take.
    """
    modality = "image" if frames == 1 else "video"
    latents, (h, w) = latent_frames(frames, config.vae.scale_factor_temporal), latent_size(height, width, config)
    tokens = dit_tokens(frames, height, width, config)
    grid = mllm_grid(frames, height, width, config, modality)
    vision_tokens = grid[0] * grid[1] * grid[2] // config.mllm.vision.spatial_merge_size**2
    queries = config.instruction.query_count(modality)
    dit = config.denoiser
    with fake_tensors():
        encoder, denoiser, vae = build_encoder(config), build_denoiser(config), build_vae(config.vae)
        inputs = _encoder_inputs(config, grid, modality, vision_tokens)
        noise = torch.empty(1, dit.in_channels, latents, h, w)
        context = torch.empty(1, queries, dit.dim)
        per_forward = _flops(lambda: denoiser(noise, torch.empty(1), context, noise))
        encoder_flops = _flops(lambda: encoder(inputs))
        encode_flops, decode_flops = _vae_flops(vae, latents, height, width)
    branches = 1 if config.sampling.guidance_scale == 1.0 else 2
    per_step = per_forward * branches
    parameters = _parameters(encoder, denoiser, vae, config)
    inference = sum(n for name, n in parameters.items() if name != "MLLM LoRA")  # merged into the MLLM
    total = branches * encoder_flops + config.sampling.num_steps * per_step + encode_flops + decode_flops
    return {
        "name": config.name,
        "clip": {"frames": frames, "height": height, "width": width, "modality": modality},
        "parameters": parameters,
        "tokens": {
            "DiT": tokens,
            "context": queries,
            "MLLM vision": vision_tokens,
            "MLLM": TEXT_TOKENS + vision_tokens + queries,
            "DiT per reference": tokens // latents,
        },
        "latent": {"shape": [1, dit.in_channels, latents, h, w], "bytes_fp32": 4 * noise.numel()},
        "flops": {
            "DiT step": per_step,
            "DiT": config.sampling.num_steps * per_step,
            "encoder": branches * encoder_flops,
            "VAE encode": encode_flops,
            "VAE decode": decode_flops,
            "total": total,
        },
        "steps": config.sampling.num_steps,
        "bytes": {
            "weights": {k: size * inference for k, size in BYTES.items()},
            "activations": _activations(config, tokens),
        },
    }


def _activations(config: InstructXConfig, tokens: int) -> int:
    """Bytes alive at the widest point of a DiT block, bf16 with fp32 norms: estimate, attention without its matrix."""
    d, f = config.denoiser.dim, config.denoiser.ffn_dim
    residual, normed = 2 * d, 2 * 4 * d
    return tokens * (residual + normed + max(4 * 2 * d, 2 * 2 * f))


def _short(value: float, unit: str = "") -> str:
    """Three or four digits with a decimal prefix: 14.29 B parameters, 594.4 M, 1.79 PFLOP."""
    scales = ((1e15, "P"), (1e12, "T"), (1e9, "G" if unit else "B"), (1e6, "M"), (1e3, "k"))
    for scale, prefix in scales:
        if value >= scale:
            digits = value / scale
            return f"{digits:.2f} {prefix}{unit}" if digits < 100 else f"{digits:.1f} {prefix}{unit}"
    return f"{value:.0f} {unit}".rstrip()


def _table(title: str, rows: dict[str, str]) -> list[str]:
    return [title, *(f"  {name:<18}{value:>14}" for name, value in rows.items()), ""]


def describe(config: InstructXConfig | str, clip: tuple[int, int, int] | None = None) -> str:
    """`measure` as text. config: one, or a preset's name. clip: (width, height, frames), default the usual one.

    Raises InputError for a clip the model cannot take.
    """
    config = preset(config) if isinstance(config, str) else config
    width, height, frames = clip or USUAL_CLIP.get(config.name, USUAL_CLIP["tiny"])
    facts = measure(config, frames, height, width)
    latent = "x".join(str(n) for n in facts["latent"]["shape"][1:])
    lines = [f"{config.name} ({config.profile} profile), {width}x{height}, {frames} frames, {facts['steps']} steps", ""]
    parameters = {k: _short(v) for k, v in facts["parameters"].items() if v}
    lines += _table("parameters", parameters)
    lines += _table("tokens", {k: f"{v:,}" for k, v in facts["tokens"].items()})
    lines += _table("compute", {k: _short(v, "FLOP") for k, v in facts["flops"].items()})
    memory = {f"weights {k}": _short(v, "B") for k, v in facts["bytes"]["weights"].items()}
    memory["activations"] = _short(facts["bytes"]["activations"], "B")
    memory["latent"] = _short(facts["latent"]["bytes_fp32"], "B")
    lines += _table("memory", memory)
    lines.append(
        f"latent {latent} (C T h w). LoRA is merged for inference; activations are an estimate (bf16, one block)."
    )
    return re.sub(r" +$", "", "\n".join(lines), flags=re.MULTILINE)
