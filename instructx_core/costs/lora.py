"""What it takes to teach a model an edit by LoRA: memory by part, for the number formats that a DiT comes in.

Numbers from fake tensors, as training.py has them -> plans, for `instructx info PRESET --train lora` and `instructx
train lora --plan`. Encoder and VAE are on the card before the DiT is, not with it. Computed, not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..config import InstructXConfig
from ..denoiser import InstructXTransformer3DModel, build_denoiser
from ..encoder.designs import build_encoder
from ..geometry import ClipSize, dit_tokens, latent_frames, latent_size
from ..vae import build_vae
from .cards import Card
from .count import Cost, cost_of_training, fake_tensors
from .floor import GIB, RESERVE
from .measure import count
from .training import LoraBranch, SampleCost, extrapolated, with_layers

# Bytes of a weight of a block. Of GGUF's types, blocks of 32 or 256 with their scales.
FORMATS: Mapping[str, float] = {"bf16": 2.0, "fp8, int8": 1.0, "Q8_0": 34 / 32, "Q5_K": 176 / 256, "Q4_K": 144 / 256}
TRAINED = 4 + 4 + 8 + 4  # bytes of a trained number: fp32, its gradient, AdamW's moments, its average
VRAM = (12, 16, 24)  # GiB
BF16 = 2


@dataclass(frozen=True, slots=True)
class LoraWeights:
    """Numbers: blocks of the DiT, what else it has, its largest layer, the LoRA, encoder and VAE."""

    blocks: int
    rest: int
    layer: int
    lora: int
    encoders: int


@dataclass(frozen=True, slots=True)
class LoraPlan:
    """flags: of `instructx train lora`. card: bytes by part while the DiT trains. encoding: bytes before that."""

    flags: str
    card: dict[str, float]
    encoding: float

    @property
    def peak(self) -> float:
        """Bytes on a card, allowance included."""
        return max(sum(self.card.values()), self.encoding) + RESERVE


def lora_weights(config: InstructXConfig, rank: int) -> LoraWeights:
    """From the modules themselves, without values."""
    with torch.device("meta"):
        denoiser, encoder, vae = build_denoiser(config), build_encoder(config), build_vae(config.vae)
    linears = _linears(denoiser)
    lora = sum(rank * (layer.in_features + layer.out_features) for layer in linears.values())
    blocks, whole = sum(layer.weight.numel() for layer in linears.values()), count(denoiser)
    layer = max(each.weight.numel() for each in linears.values())
    return LoraWeights(blocks, whole - blocks, layer, lora, count(encoder) + count(vae))


def _linears(denoiser: InstructXTransformer3DModel) -> dict[str, nn.Linear]:
    """The layers that get a LoRA: all of the blocks."""
    return {
        name: layer
        for name, layer in denoiser.named_modules()
        if name.startswith("blocks.") and isinstance(layer, nn.Linear)
    }


def lora_sample(config: InstructXConfig, rank: int, clip: ClipSize, recompute: bool) -> SampleCost:
    """Forward and backward pass of one sample. Raises InputError for a size that the model cannot take."""
    tokens = dit_tokens(clip.frames, clip.height, clip.width, config)
    two, three = (_cost(with_layers(config, layers), rank, clip, recompute) for layers in (2, 3))
    whole = extrapolated(two, (three, config.denoiser.num_layers - 2))
    return SampleCost(tokens, whole.flops, whole.peak)


def _cost(config: InstructXConfig, rank: int, clip: ClipSize, recompute: bool) -> Cost:
    frames = latent_frames(clip.frames, config.vae.scale_factor_temporal)
    height, width = latent_size(clip.height, clip.width, config)
    queries = config.instruction.query_count("image" if clip.frames == 1 else "video")
    with fake_tensors(torch.bfloat16):
        denoiser = build_denoiser(config).requires_grad_(False)
        for name, layer in _linears(denoiser).items():
            parent, _, child = name.rpartition(".")
            setattr(denoiser.get_submodule(parent), child, LoraBranch(layer, rank))
        if recompute:
            denoiser.enable_gradient_checkpointing()
        noise = torch.empty(1, config.denoiser.in_channels, frames, height, width)
        context = torch.empty(1, queries, config.denoiser.context_dim)
        time = torch.empty(1, dtype=torch.float32)

        def loss() -> Tensor:
            return denoiser(noise, time, context, source=noise, return_dict=False)[0].float().pow(2).mean()

        return cost_of_training(loss, denoiser)


def lora_plans(
    weights: LoraWeights, samples: Mapping[bool, SampleCost], batch: int, weight_bytes: float
) -> list[LoraPlan]:
    """From the fastest to the smallest. samples: by whether activations are computed twice. weight_bytes: of one
    weight of a block."""
    frozen = {
        "DiT, frozen": weight_bytes * weights.blocks + BF16 * weights.rest,
        "LoRA, gradients, AdamW, average": TRAINED * weights.lora,
    }
    if weight_bytes < BF16:
        frozen["a layer, unpacked"] = (4 + BF16) * weights.layer
    chosen = [("", batch, False), ("--recompute", batch, True), ("--recompute --micro 1", 1, True)]
    return [
        LoraPlan(
            flags,
            frozen | {"activations": micro * samples[recompute].activations},
            BF16 * weights.encoders,
        )
        for flags, micro, recompute in chosen
    ]


def lora_report(config: InstructXConfig, rank: int, clip: ClipSize, batch: int, card: Card | float | None) -> str:
    """Text for people. card: or GiB of one; None: of 12, 16 and 24."""
    weights = lora_weights(config, rank)
    samples = {recompute: lora_sample(config, rank, clip, recompute) for recompute in (False, True)}
    memory = card.memory if isinstance(card, Card) else card
    cards = VRAM if memory is None else (memory,)
    shown = samples[True]
    lines = [
        f"LoRA of rank {rank} on {config.name}: {weights.lora / 1e6:,.1f} M numbers trained, "
        f"{(weights.blocks + weights.rest) / 1e9:.2f} B frozen",
        f"  {clip.width}x{clip.height}, {clip.frames} frame{'s' if clip.frames > 1 else ''}: {shown.tokens:,} tokens, "
        f"{shown.flops / 1e12:,.1f} TFLOP a sample and step, {batch} of them a step",
        f"  before it, encoder and VAE: {BF16 * weights.encoders / GIB:.1f} GiB",
        "",
        "GiB of a card (computed)",
        f"  {'DiT stored as':<14}{'as it is':>10}{'--recompute':>13}{'and --micro 1':>15}   what fits",
    ]
    for name, size in FORMATS.items():
        plans = lora_plans(weights, samples, batch, size)
        figures = "".join(f"{plan.peak / GIB:>{width}.1f}" for plan, width in zip(plans, (10, 13, 15), strict=True))
        fits = [f"{each:g}: {_fitting(plans, each)}" for each in cards]
        lines.append(f"  {name:<14}{figures}   {'; '.join(fits)}")
    return "\n".join(lines)


def _fitting(plans: list[LoraPlan], memory: float) -> str:
    plan = next((plan for plan in plans if plan.peak <= memory * GIB), None)
    return "no" if plan is None else plan.flags or "yes"


def plan_of_run(config: InstructXConfig, rank: int, clip: ClipSize, batch: int, dit_bytes: int) -> str:
    """Text for one run: the DiT as its file has it."""
    weights = lora_weights(config, rank)
    samples = {recompute: lora_sample(config, rank, clip, recompute) for recompute in (False, True)}
    stored = max(0.0, (dit_bytes - BF16 * weights.rest) / weights.blocks)
    lines = [f"memory of a card, GiB (computed; {clip.width}x{clip.height}, {clip.frames} frames, batch {batch})"]
    plans = lora_plans(weights, samples, batch, min(stored, BF16))
    for plan in plans:
        lines.append(f"  {plan.flags or 'as it is':<24}{plan.peak / GIB:>7.1f}")
    rows = [*plans[1].card.items(), ("before it: encoder and VAE", plans[1].encoding), ("allowance", RESERVE)]
    lines += ["with --recompute, by part", *(f"  {name:<34}{size / GIB:>7.2f}" for name, size in rows)]
    return "\n".join(lines)
