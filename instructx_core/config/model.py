"""All model and sampling choices as frozen dataclasses: one for each part of the model, InstructXConfig for the whole.

Two profiles run through one code path (docs/parity.md): `instructx` is the paper to the letter, `kiwi` the public
model of the same design (showlab/Kiwi-Edit). Every difference between them is a field below, never an `if` on a name.
Values that the paper does not give are marked `not in paper`.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Literal

from .design import DesignConfig
from .older import add_usual_size
from .reading import LARGEST, build

EMBEDDERS = ("source_embedder", "reference_embedder")  # modules of the DiT; an adapter carries those of its own
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

SYSTEM_PROMPT = (
    "You will be given an image and instruction. Please describe the content of the image in detail based on "
    "instruction in your own words."
)

LONGEST_NOTE = 200  # characters

ReferencePosition = Literal["last", "first"]  # of the references in the sequence, before or behind the video
SourceScale = Literal["none", "sigma"]
TimestepRounding = Literal["none", "bfloat16"]  # bfloat16: parity with kiwi, which rounds the timestep


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
    """LoRA of the MLLM (paper 3.2). rank 256 on seven names over the whole MLLM = 594M = the paper's "0.6B".

    rank 0: none, the MLLM stays as it is.
    """

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
    source_scale: SourceScale = "none"
    reference_embedder: Literal["tied", "own", "none"] = "tied"  # not in paper; none: references are refused
    reference_position: ReferencePosition = "last"  # not in paper
    # direct: the connector's output is the context; text: it goes through Wan's text_embedding. The paper says "replace
    # the text embeddings", which is the context after that layer.
    context: Literal["direct", "text"] = "direct"
    timestep_rounding: TimestepRounding = "none"

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
    """How a checkpoint is run unless the caller says otherwise: the flow-matching sampler, and the frames' usual size.

    sigma' = shift*sigma / (1 + (shift-1)*sigma). The usual size is the one of training (Wan2.1's by default); of
    `width` and `height` only the area counts, a frame keeps its shape.
    """

    num_steps: int = 50  # not in paper
    shift: float = 5.0  # not in paper; Wan's and Kiwi's value
    guidance_scale: float = 1.0  # 1 = off (one forward a step); not in paper
    sigma_min: float = 0.0  # last noise level before the shift; not in paper; kiwi's diffusers pipeline: 0.003 / 1.002
    width: int = 832  # pixels
    height: int = 480  # pixels
    frames: int = 81  # a longer clip is edited in windows of this many
    fps: float = 16.0  # Hz

    def __post_init__(self) -> None:
        _require(
            self.width > 0 and self.height > 0 and self.area <= LARGEST,
            f"a usual size of {self.width}x{self.height}; use 1 to {LARGEST} pixels",
        )
        _require(self.frames > 0 and self.fps > 0, f"{self.frames} frames at {self.fps:g} fps; both must be positive")

    @property
    def area(self) -> int:
        """Pixels of one frame."""
        return self.width * self.height


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
    design: DesignConfig = field(default_factory=DesignConfig)
    trained_on: str = ""  # the small world of a model that knows no other; an edit of anything else says so

    def __post_init__(self) -> None:
        _require(
            self.trained_on.isprintable() and len(self.trained_on) <= LONGEST_NOTE,
            f"trained_on is one line of at most {LONGEST_NOTE} characters",
        )
        _require(
            self.vae.z_dim == self.denoiser.in_channels,
            f"VAE has {self.vae.z_dim} latent channels, the DiT takes {self.denoiser.in_channels}",
        )
        rule, kind = self.instruction, self.design.kind
        _require(
            not self.design.shared_queries or rule.num_image_queries == rule.num_video_queries,
            f"shared queries of {rule.num_image_queries} for images and {rule.num_video_queries} for clips",
        )
        _require(
            kind != "t5" or self.denoiser.context == "text",
            f"design {kind} gives text features; the context of its DiT is text, not {self.denoiser.context}",
        )

    @property
    def size_multiple(self) -> int:
        """Pixels that H and W must be a multiple of: VAE stride x DiT patch (16 for Wan2.1, 32 for Wan2.2-5B)."""
        return self.vae.scale_factor_spatial * self.denoiser.patch_size[1]

    def appended_queries(self, modality: str, has_reference: bool = False) -> int:
        """Queries at the end of the MLLM's sequence: none in designs without."""
        if self.design.kind in ("t5", "qformer"):
            return 0
        return self.instruction.query_count(modality, has_reference)

    def context_length(self, modality: str) -> int:
        """Rows of the context of an edit without references."""
        fixed = {"t5": self.design.t5.length, "qformer": self.design.qformer.num_tokens}
        return fixed.get(self.design.kind) or self.instruction.query_count(modality)

    def to_json(self) -> str:
        """The design only where it is not the usual one: files from before it say the same."""
        values = dataclasses.asdict(self)
        if self.design == DesignConfig():
            del values["design"]
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> InstructXConfig:
        """Raises ValueError naming the field when `text` has an unknown or missing one."""
        return build(cls, add_usual_size(json.loads(text)), "config")
