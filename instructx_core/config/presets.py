"""Presets: functions that return one InstructXConfig each. The paper, the public Kiwi-Edit weights, the shipped model.

A file on disk carries its own config; a preset is where a new model starts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from .design import Design, DesignConfig, MetaQueryConfig, QFormerConfig, TextEncoderConfig
from .model import (
    LORA_TARGETS,
    DenoiserConfig,
    InstructionConfig,
    InstructXConfig,
    LoraConfig,
    MllmConfig,
    SamplingConfig,
    VaeConfig,
    VisionConfig,
)
from .usual_size import SHAPES, SHAPES_PIXELS, SHAPES_TRAINED_ON, WAN22_5B, WORLD_PIXELS, WORLD_TRAINED_ON

TEXT_LENGTH = 48  # tokens of the tiny text encoder; Wan pads to 512


def paper_14b() -> InstructXConfig:
    """The paper: Qwen2.5-VL-3B + 594M LoRA, 256/512 queries, 13 frames, Wan2.1-T2V-14B."""
    return InstructXConfig(name="paper_14b", profile="instructx")


def kiwi_5b() -> InstructXConfig:
    """Public Kiwi-Edit weights on Wan2.2-TI2V-5B (docs/parity.md)."""
    return InstructXConfig(
        name="kiwi_5b",
        profile="kiwi",
        lora=LoraConfig(rank=64, alpha=64, targets=LORA_TARGETS[:4], scope="language_model"),
        instruction=InstructionConfig(
            num_reference_queries=768,
            query_slice="tail",
            mllm_frames=16,
            frame_rule="cap",
            video_size_factor=2,
            temporal_position_step="fixed",
            reference_in_context=True,
            reference_as_video=True,
        ),
        denoiser=DenoiserConfig(
            dim=3072,
            ffn_dim=14336,
            num_layers=30,
            num_heads=24,
            in_channels=48,
            out_channels=48,
            source_embedder="own",
            source_scale="sigma",
            reference_embedder="own",
        ),
        vae=VaeConfig(
            base_dim=160,
            decoder_base_dim=256,
            z_dim=48,
            in_channels=12,
            out_channels=12,
            patch_size=2,
            is_residual=True,
            temporal_downsample=(False, True, True),
            scale_factor_spatial=16,
        ),
        sampling=SamplingConfig(**WAN22_5B, fps=24.0),
    )


def tiny() -> InstructXConfig:
    """The shipped checkpoint: the whole architecture, trained on the procedural world `shapes` (64x64, 17 frames).

    Native ComfyUI loaders take its files: original Wan key names, head dim 128, z_dim 16, text_dim 4096.
    Source and reference have embedders of their own: "tied" starts much slower (docs/training.md).
    LoRA sits in the language model only, so the frozen vision tower's features can be cached in training.
    """
    return InstructXConfig(
        name="tiny",
        profile="instructx",
        mllm=MllmConfig(
            vocab_size=1024,
            hidden_size=128,
            intermediate_size=320,
            num_layers=4,
            num_heads=4,
            num_kv_heads=2,
            rope_theta=1e4,
            mrope_section=(4, 6, 6),
            vision=VisionConfig(
                depth=3, hidden_size=128, intermediate_size=256, num_heads=4, full_attention_blocks=(2,)
            ),
        ),
        lora=LoraConfig(rank=32, alpha=32, scope="language_model"),
        instruction=InstructionConfig(
            num_image_queries=16,
            num_video_queries=32,
            system_prompt="Describe the edit.",
            reference_suffix=" Use the reference.",
            min_pixels=SHAPES_PIXELS,
            max_pixels=SHAPES_PIXELS,
            max_image_pixels=SHAPES_PIXELS,
            max_reference_pixels=SHAPES_PIXELS,
        ),
        denoiser=DenoiserConfig(
            dim=256, ffn_dim=768, num_layers=6, num_heads=2, source_embedder="own", reference_embedder="own"
        ),
        vae=VaeConfig(base_dim=12),
        # More steps succeed less often: docs/speed.md.
        sampling=SamplingConfig(num_steps=4, shift=3.0, **SHAPES),
        trained_on=SHAPES_TRAINED_ON,
    )


def tiny2() -> InstructXConfig:
    """The next shipped checkpoint: `tiny` for version 2 of the world (`world`, 64 to 128 pixels, many aspect ratios).

    A cell of its vision tower is 16 pixels, and the world's sides are multiples of that: the MLLM sees every picture as
    it is. Two languages with typos and synonyms take two layers more.
    """
    base, (fewest, most) = tiny(), WORLD_PIXELS
    return dataclasses.replace(
        base,
        name="tiny2",
        mllm=dataclasses.replace(
            base.mllm,
            vocab_size=2048,
            num_layers=6,
            vision=dataclasses.replace(base.mllm.vision, patch_size=8, window_size=64),
        ),
        instruction=dataclasses.replace(
            base.instruction,
            min_pixels=fewest,
            max_pixels=most,
            max_image_pixels=most,
            max_reference_pixels=most,
        ),
        trained_on=WORLD_TRAINED_ON,
    )


def with_parity(config: InstructXConfig) -> InstructXConfig:
    """`config` with the rounding steps of Kiwi-Edit's bf16 pipelines switched on, to compare numbers (docs/parity.md).

    Results are not better for it: each switch only loses digits where the reference loses them.
    """
    return dataclasses.replace(
        config,
        instruction=dataclasses.replace(config.instruction, pixel_rounding="bfloat16"),
        denoiser=dataclasses.replace(config.denoiser, timestep_rounding="bfloat16"),
    )


def with_design(config: InstructXConfig, kind: Design) -> InstructXConfig:
    """`config` with another way to the context of its DiT (design.py): the paper's sizes beside Qwen2.5-VL-3B.

    Beside a smaller MLLM each part is as much smaller, and UMT5 is the one that the tiny DiT learns captions with
    (training/recipes/tiny.py). All but `queries` leave the MLLM as it is: no LoRA.
    """
    if kind == "queries":
        return config
    mllm, usual = config.mllm, MllmConfig()
    sizes = DesignConfig(kind=kind)
    if mllm != usual:
        depth = mllm.num_layers / usual.num_layers
        sizes = DesignConfig(
            kind=kind,
            t5=TextEncoderConfig(
                vocab_size=mllm.vocab_size,
                hidden_size=128,
                head_size=32,
                ffn_dim=256,
                num_layers=2,
                num_heads=4,
                length=TEXT_LENGTH,
                end_token="",
            ),
            qformer=QFormerConfig(
                num_tokens=config.instruction.num_image_queries,
                hidden_size=64,
                intermediate_size=256,
                num_layers=max(2, round(sizes.qformer.num_layers * depth)),
                num_heads=2,
            ),
            metaquery=MetaQueryConfig(
                num_layers=max(1, round(sizes.metaquery.num_layers * depth)),
                num_heads=mllm.num_heads,
                intermediate_size=4 * mllm.hidden_size,
            ),
        )
    denoiser = dataclasses.replace(config.denoiser, context="text") if kind == "t5" else config.denoiser
    lora = dataclasses.replace(config.lora, rank=0)
    return dataclasses.replace(config, lora=lora, denoiser=denoiser, design=sizes)


PRESETS: dict[str, Callable[[], InstructXConfig]] = {
    "paper_14b": paper_14b,
    "kiwi_5b": kiwi_5b,
    "tiny": tiny,
    "tiny2": tiny2,
}


def preset(name: str) -> InstructXConfig:
    """Raises ValueError with the known names for an unknown one."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]()
