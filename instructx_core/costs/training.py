"""What a training step costs (paper 3.3, 4.1): FLOPs, activations and gathered weights of one sample, on fake tensors.

A stage says what is trained; forward and backward pass of both models run on tensors without values, with two and with
three layers (the peak of one is elsewhere), and what a layer adds is added for the rest. plan.py makes memory of it.
Legend: F pixel frames, H W pixels.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from ..config import EMBEDDERS, InstructXConfig
from ..denoiser import build_denoiser
from ..encoder.context_encoder import ContextEncoder
from ..encoder.designs import build_encoder
from ..encoder.text_encoder import TextEncoder
from ..geometry import ClipSize, dit_tokens, latent_frames, latent_size, mllm_grid
from ..training.recipes.edit import EditRecipe
from ..vae import build_vae
from .count import Cost, cost_of, cost_of_training, fake_tensors
from .measure import count, empty_inputs, empty_texts, lora_targets


@dataclass(frozen=True, slots=True)
class StageWeights:
    """Numbers of parameters. frozen: of what is shared out; vae: on every card. block: the largest that is gathered
    alone; root_*: of what is gathered for a whole pass; tensor: of the largest, which loading reads at once."""

    trained: int
    frozen: int
    vae: int
    block: int
    root_trained: int
    root_frozen: int
    tensor: int


@dataclass(frozen=True, slots=True)
class SampleCost:
    """Of one sample, forward and backward. activations: bytes at the peak, without weights and gradients."""

    tokens: int
    flops: int
    activations: int


@dataclass(frozen=True, slots=True)
class _Counts:
    """Parameters of a whole model, whatever is trained of it. reader: the MLLM or text encoder that stays frozen;
    tower: the MLLM's for pictures; beside: of the DiT's embedders of pictures; unused: of its text embedder."""

    reader: int
    lora: int
    tower: int
    tower_lora: int
    connector: int
    queries: tuple[tuple[str, int], ...]
    dit: int
    blocks: int
    beside: int
    unused: int
    vae: int
    block: int
    tensor: int


@cache
def _counts(config: InstructXConfig) -> _Counts:
    """From the modules themselves, without values."""
    with torch.device("meta"):  # peft refuses fake tensors
        encoder, denoiser, vae = build_encoder(config), build_denoiser(config), build_vae(config.vae)
        reader = encoder.text_encoder if encoder.mllm is None else encoder.mllm
        words = count(reader)
        encoder.add_lora(config.lora)
        visual = None if encoder.mllm is None else encoder.mllm.visual
        queries = tuple((name, p.numel()) for name, p in encoder.queries.items())
        named = dict(denoiser.named_parameters())
        return _Counts(
            reader=words,
            lora=count(reader) - words,
            tower=0 if visual is None else count(visual),
            tower_lora=0 if visual is None else sum(p.numel() for n, p in visual.named_parameters() if ".lora_" in n),
            connector=count(encoder) - count(reader) - sum(size for _, size in queries),
            queries=queries,
            dit=count(denoiser),
            blocks=count(denoiser.blocks),
            beside=sum(p.numel() for n, p in named.items() if n.startswith(EMBEDDERS)),
            unused=count(denoiser.condition_embedder.text_embedder) if denoiser.config.context == "direct" else 0,
            vae=count(vae),
            block=max(count(layer) for layer in [*_layers(encoder), *denoiser.blocks]),
            tensor=max(p.numel() for module in (encoder, denoiser) for p in module.parameters()),
        )


def count_weights(recipe: EditRecipe, config: InstructXConfig) -> StageWeights:
    found, whole = _counts(config), "denoiser" in recipe.train
    queries = sum(size for name, size in found.queries if f"queries.{name}" in recipe.train)
    embedders = found.beside if EMBEDDERS[0] in recipe.train else 0
    head = found.dit - found.blocks - found.unused
    return StageWeights(
        trained=queries + found.connector + found.lora + (found.dit - found.unused if whole else 0),
        frozen=found.reader + (found.unused if whole else found.dit - embedders),
        vae=found.vae,
        block=found.block,
        root_trained=queries + found.connector + found.tower_lora + (head if whole else 0),
        root_frozen=found.tower - found.tower_lora + found.unused + (0 if whole else head),
        tensor=found.tensor,
    )


def _layers(encoder: ContextEncoder) -> list[nn.Module]:
    """What is gathered one at a time."""
    if encoder.mllm is not None:
        return list(encoder.mllm.language_model.layers)
    assert isinstance(encoder.text_encoder, TextEncoder)
    return list(encoder.text_encoder.model.encoder.block)


def sample_cost(
    recipe: EditRecipe, config: InstructXConfig, clip: ClipSize, recompute: bool, reference: bool = False
) -> SampleCost:
    """reference: one goes into the DiT too. Raises InputError for a size that the model cannot take."""
    tokens = dit_tokens(clip.frames, clip.height, clip.width, config)
    tokens += dit_tokens(1, clip.height, clip.width, config) if reference else 0
    dits = [_denoiser_cost(recipe, with_layers(config, n), clip, recompute, reference) for n in (2, 3)]
    dit = extrapolated(dits[0], (dits[1], config.denoiser.num_layers - 2))
    full = len(config.mllm.vision.full_attention_blocks)
    shallow = [with_layers(config, 1, *depths) for depths in ((2, 2, 0), (3, 2, 0), (2, 3, 0), (2, 2, 1))]
    base, layer, windowed, attending = (_encoder_cost(each, clip, recompute) for each in shallow)
    more = (layer, config.mllm.num_layers - 2), (windowed, config.mllm.vision.depth - full - 2), (attending, full)
    mllm = extrapolated(base, *more)
    return SampleCost(tokens, dit.flops + mllm.flops, dit.peak + mllm.peak)


def with_layers(
    config: InstructXConfig, dit: int, language: int = 1, windowed: int = 1, full: int = 0
) -> InstructXConfig:
    """Of that depth: the DiT, the language model, and the blocks of the vision tower with and without windows."""
    vision = dataclasses.replace(
        config.mllm.vision,
        depth=windowed + full,
        full_attention_blocks=tuple(range(windowed, windowed + full)),
    )
    return dataclasses.replace(
        config,
        denoiser=dataclasses.replace(config.denoiser, num_layers=dit),
        mllm=dataclasses.replace(config.mllm, num_layers=language, vision=vision),
    )


def extrapolated(base: Cost, *more: tuple[Cost, int]) -> Cost:
    """base, and what each of the others has beyond it so many times."""
    return Cost(
        base.flops + sum(times * (cost.flops - base.flops) for cost, times in more),
        base.peak + sum(times * max(0, cost.peak - base.peak) for cost, times in more),
    )


def _denoiser_cost(
    recipe: EditRecipe, config: InstructXConfig, clip: ClipSize, recompute: bool, reference: bool = False
) -> Cost:
    modality = "image" if clip.frames == 1 else "video"
    frames, (h, w) = (
        latent_frames(clip.frames, config.vae.scale_factor_temporal),
        latent_size(clip.height, clip.width, config),
    )
    with fake_tensors(torch.bfloat16):
        denoiser = build_denoiser(config).requires_grad_("denoiser" in recipe.train)
        if recompute:
            denoiser.enable_gradient_checkpointing()
        noise = torch.empty(1, config.denoiser.in_channels, frames, h, w)
        context = torch.empty(1, config.context_length(modality), config.denoiser.context_dim).requires_grad_(True)
        source = noise if recipe.source_latents else None
        references = noise[:, :, :1] if reference else None
        time = torch.empty(1, dtype=torch.float32)

        def loss() -> Tensor:
            predicted = denoiser(noise, time, context, source=source, references=references, return_dict=False)[0]
            return predicted.float().pow(2).mean()

        return cost_of_training(loss, denoiser)


@cache  # the same for all recipes
def _encoder_cost(config: InstructXConfig, clip: ClipSize, recompute: bool) -> Cost:
    """With its vision tower where that is trained; else its features come from the cache."""
    modality = "image" if clip.frames == 1 else "video"
    grid = mllm_grid(clip.frames, clip.height, clip.width, config, modality)
    tokens = grid[0] * grid[1] * grid[2] // config.mllm.vision.spatial_merge_size**2
    with fake_tensors(torch.bfloat16):
        encoder = build_encoder(config)
        if encoder.mllm is None:
            texts = empty_texts(config)
            return cost_of(lambda: encoder(texts))
        encoder.mllm.requires_grad_(False)
        _add_lora(encoder.mllm, config)
        if recompute:
            encoder.mllm.gradient_checkpointing_enable()
        encoder.train()
        inputs = empty_inputs(config, grid, modality, tokens).to(dtype=torch.bfloat16)
        features = (
            None
            if config.lora.rank and config.lora.scope == "mllm"
            else torch.empty(1, tokens, config.mllm.hidden_size)
        )
        return cost_of_training(lambda: encoder(inputs, features).float().pow(2).mean(), encoder)


class LoraBranch(nn.Module):
    """What peft computes, as modules that can be built of fake tensors."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


def _add_lora(mllm: nn.Module, config: InstructXConfig) -> None:
    for name in lora_targets(mllm, config) if config.lora.rank else ():
        parent, _, child = name.rpartition(".")
        linear = mllm.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        setattr(mllm.get_submodule(parent), child, LoraBranch(linear, config.lora.rank))
