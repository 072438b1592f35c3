"""All model and sampling choices as frozen dataclasses; a preset is a function that returns one InstructXConfig.

Two profiles run through one code path (docs/parity.md): `instructx` is the paper to the letter, `kiwi` the public
model of the same design (showlab/Kiwi-Edit). Every difference between them is a field below, never an `if` on a name.
Values that the paper does not give are marked `not in paper`.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from .config_check import check_sizes, check_values

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

SYSTEM_PROMPT = (
    "You will be given an image and instruction. Please describe the content of the image in detail based on "
    "instruction in your own words."
)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionConfig:
    """Vision tower of Qwen2.5-VL: windowed attention, 2x2 patch merger, two frames a patch."""

    depth: int = 32
    hidden_size: int = 1280
    intermediate_size: int = 3420
    num_heads: int = 16
    patch_size: int = 14
    temporal_patch_size: int = 2
    spatial_merge_size: int = 2
    window_size: int = 112  # pixels
    full_attention_blocks: tuple[int, ...] = (7, 15, 23, 31)
    tokens_per_second: int = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class MllmConfig:
    """Qwen2.5-VL. Defaults are the 3B model."""

    vocab_size: int = 151936
    hidden_size: int = 2048
    intermediate_size: int = 11008
    num_layers: int = 36
    num_heads: int = 16
    num_kv_heads: int = 2
    rope_theta: float = 1e6
    mrope_section: tuple[int, int, int] = (16, 24, 24)  # t, h, w; sums to half a head
    rms_norm_eps: float = 1e-6
    vision: VisionConfig = field(default_factory=VisionConfig)

    def __post_init__(self) -> None:
        head = self.hidden_size // self.num_heads
        _require(
            2 * sum(self.mrope_section) == head,
            f"mrope_section {self.mrope_section} must sum to half of the head dim {head}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """LoRA of the MLLM (paper 3.2). rank 256 on seven names over the whole MLLM = 594M = the paper's "0.6B"."""

    rank: int = 256  # not in paper
    alpha: int = 256  # not in paper
    targets: tuple[str, ...] = LORA_TARGETS  # not in paper
    scope: Literal["mllm", "language_model"] = "mllm"  # where the names are looked for


@dataclass(frozen=True, kw_only=True, slots=True)
class InstructionConfig:
    """What the MLLM is shown and what is kept of its output (paper 3.1, 3.2)."""

    num_image_queries: int = 256
    num_video_queries: int = 512
    num_reference_queries: int = 0  # 0: reference edits use the set of their modality
    # 0 image or video queries: the checkpoint was not trained on that modality, which is refused
    query_slice: Literal["exact", "tail"] = "exact"  # tail: kiwi keeps the last N tokens, <|im_end|> and \n included
    mllm_frames: int = 13
    frame_rule: Literal["always", "cap"] = "always"  # cap: kiwi samples only clips longer than mllm_frames
    temporal_position_step: Literal["seconds", "fixed"] = "seconds"  # fixed: kiwi, 2 a grid cell whatever the fps
    reference_in_context: bool = False  # kiwi: the reference's vision tokens go through their own connector, first
    reference_as_video: bool = False  # kiwi: with a reference, one picture is a clip of one frame
    reference_suffix: str = " Use the reference input from last frame."
    system_prompt: str = SYSTEM_PROMPT  # not in paper
    min_pixels: int = 100352  # a frame the MLLM sees, video; not in paper
    max_pixels: int = 262144
    video_size_factor: Literal[1, 2] = 1  # 2: kiwi first fits video frames to multiples of 56 px, then of 28
    max_image_pixels: int = 16384 * 784  # a single image
    max_reference_pixels: int = 602112
    pixel_rounding: Literal["none", "bfloat16"] = "none"  # bfloat16: parity with kiwi, which rounds pixels first

    def query_count(self, modality: str, has_reference: bool = False) -> int:
        if has_reference and self.num_reference_queries:
            return self.num_reference_queries
        return self.num_video_queries if modality == "video" else self.num_image_queries


@dataclass(frozen=True, kw_only=True, slots=True)
class DenoiserConfig:
    """Wan DiT plus how source and reference latents enter it. Defaults are Wan2.1-T2V-14B."""

    dim: int = 5120
    ffn_dim: int = 13824
    num_layers: int = 40
    num_heads: int = 40
    in_channels: int = 16
    out_channels: int = 16
    freq_dim: int = 256
    text_dim: int = 4096
    patch_size: tuple[int, int, int] = (1, 2, 2)
    eps: float = 1e-6
    source_embedder: Literal["tied", "own"] = "tied"  # tied = "add the VAE encoding to the noisy latent"
    source_scale: Literal["none", "sigma"] = "none"
    reference_embedder: Literal["tied", "own", "none"] = "tied"  # not in paper; none: references are refused
    reference_position: Literal["last", "first"] = "last"  # not in paper
    # direct: the connector's output is the context; text: it goes through Wan's text_embedding. The paper says "replace
    # the text embeddings", which is the context after that layer.
    context: Literal["direct", "text"] = "direct"
    timestep_rounding: Literal["none", "bfloat16"] = "none"  # bfloat16: parity with kiwi, which rounds the timestep

    def __post_init__(self) -> None:
        _require(self.dim % self.num_heads == 0, f"dim {self.dim} must divide into {self.num_heads} heads")

    @property
    def context_dim(self) -> int:
        """Width of the connector's output."""
        return self.dim if self.context == "direct" else self.text_dim


@dataclass(frozen=True, kw_only=True, slots=True)
class VaeConfig:
    """Wan VAE. Defaults are Wan2.1 (16 channels, /8 space, /4 time)."""

    base_dim: int = 96
    decoder_base_dim: int | None = None
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    temporal_downsample: tuple[bool, ...] = (False, True, True)
    in_channels: int = 3
    out_channels: int = 3
    patch_size: int | None = None
    is_residual: bool = False
    scale_factor_spatial: int = 8
    scale_factor_temporal: int = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """Flow-matching sampler defaults. sigma' = shift*sigma / (1 + (shift-1)*sigma)."""

    num_steps: int = 50  # not in paper
    shift: float = 5.0  # not in paper; Wan's and Kiwi's value
    guidance_scale: float = 1.0  # 1 = off (one forward a step); not in paper
    fps: float = 16.0  # Wan2.1's training frame rate, Hz
    sigma_min: float = 0.0  # last noise level before the shift; not in paper; kiwi's diffusers pipeline: 0.003 / 1.002


@dataclass(frozen=True, kw_only=True, slots=True)
class InstructXConfig:
    """The whole model. `to_json`/`from_json` are what every saved file carries."""

    name: str
    profile: Literal["instructx", "kiwi"]
    mllm: MllmConfig = field(default_factory=MllmConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    instruction: InstructionConfig = field(default_factory=InstructionConfig)
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    vae: VaeConfig = field(default_factory=VaeConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        _require(
            self.vae.z_dim == self.denoiser.in_channels,
            f"VAE has {self.vae.z_dim} latent channels, the DiT takes {self.denoiser.in_channels}",
        )

    @property
    def size_multiple(self) -> int:
        """Pixels that H and W must be a multiple of: VAE stride x DiT patch (16 for Wan2.1, 32 for Wan2.2-5B)."""
        return self.vae.scale_factor_spatial * self.denoiser.patch_size[1]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> InstructXConfig:
        """Raises ValueError naming the field when `text` has an unknown or missing one."""
        return _build(cls, json.loads(text), "config")


_NESTED: dict[str, Any] = {
    "mllm": MllmConfig,
    "vision": VisionConfig,
    "lora": LoraConfig,
    "instruction": InstructionConfig,
    "denoiser": DenoiserConfig,
    "vae": VaeConfig,
    "sampling": SamplingConfig,
}


def _build(cls: Any, data: dict[str, Any], where: str) -> Any:
    _require(isinstance(data, dict), f"{where}: expected a JSON object, got {type(data).__name__}")
    known = {f.name for f in dataclasses.fields(cls)}
    unknown = sorted(set(data) - known)
    _require(not unknown, f"{where}: unknown field(s) {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    values = {}
    for key, value in data.items():
        if key in _NESTED:
            value = _build(_NESTED[key], value, f"{where}.{key}")
        elif isinstance(value, list):
            value = tuple(value)
        values[key] = value
    check_values(cls, values, where)
    try:
        config = cls(**values)
    except (TypeError, ZeroDivisionError) as error:
        raise ValueError(f"{where}: {error}") from None
    check_sizes(config, where)
    return config


def paper_14b() -> InstructXConfig:
    """The paper: Qwen2.5-VL-3B + 594M LoRA, 256/512 queries, 13 frames, Wan2.1-T2V-14B."""
    return InstructXConfig(name="paper_14b", profile="instructx")


def kiwi_5b() -> InstructXConfig:
    """Public Kiwi-Edit weights on Wan2.2-TI2V-5B (research/weights.md 1)."""
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
        sampling=SamplingConfig(fps=24.0),
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
            min_pixels=56 * 56,
            max_pixels=56 * 56,
            max_image_pixels=56 * 56,
            max_reference_pixels=56 * 56,
        ),
        denoiser=DenoiserConfig(
            dim=256, ffn_dim=768, num_layers=6, num_heads=2, source_embedder="own", reference_embedder="own"
        ),
        vae=VaeConfig(base_dim=12),
        sampling=SamplingConfig(num_steps=4, shift=3.0),  # more steps succeed less often: docs/speed.md
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


PRESETS = {"paper_14b": paper_14b, "kiwi_5b": kiwi_5b, "tiny": tiny}


def preset(name: str) -> InstructXConfig:
    """Raises ValueError with the known names for an unknown one."""
    _require(name in PRESETS, f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]()
