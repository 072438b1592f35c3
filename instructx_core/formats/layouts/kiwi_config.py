"""The InstructXConfig of a Kiwi-Edit checkpoint, from the shapes in its files.

Everything that a shape tells is taken from the shapes: widths, counts of queries, rank and layers of the LoRA, whether
the connector ends at the DiT's width or in front of its text embedding. Where the reference stands in the sequence is
told by a folder's config, else by the file's name, else it is last. What only a training on references brings (their
queries, connector and embedder) may be absent: such a checkpoint then refuses references.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from ...config import (
    DenoiserConfig,
    InstructXConfig,
    LoraConfig,
    MllmConfig,
    ReferencePosition,
    SamplingConfig,
    VaeConfig,
    kiwi_5b,
)
from ...errors import InputError
from .dit_sizes import Shapes

DIFFUSERS_SIGMA_MIN = 0.003 / 1.002  # of its diffusers pipeline; its training code uses 0
REFERENCE_PARTS = ("queries.reference", "reference_connector.0.weight", "reference_embedder.weight")


@dataclass(frozen=True, kw_only=True)
class KiwiSettings:
    """What no shape tells. position: of the reference in the sequence.

    object_tokens: most tokens of a reference; by default as many as there are reference queries, which is so in both
    sizes that Kiwi-Edit's code knows.
    """

    position: ReferencePosition = "last"
    object_tokens: int | None = None
    sigma_min: float = 0.0


_NAME_WARNING = "warning: only the name tells, give reference_position if the file was renamed"


def reference_position(
    first: bool | None, name: str, chosen: ReferencePosition | None = None
) -> tuple[ReferencePosition, str]:
    """(where reference tokens stand, who says so): `chosen`, a folder's config, the file's name, or the default."""
    if chosen is not None:
        if chosen not in ("last", "first"):
            raise InputError(f"reference_position is {chosen!r}; use last or first")
        return chosen, "as asked"
    if first is not None:
        return ("first" if first else "last"), "by its config"
    if "pad_first" in name:
        return "first", f"by its name; {_NAME_WARNING}"
    return "last", f"the default: neither config nor name says pad_first; {_NAME_WARNING}"


def infer_config(
    shapes: Shapes,
    *,
    name: str,
    mllm: MllmConfig,
    denoiser: DenoiserConfig,
    vae: VaeConfig,
    settings: KiwiSettings = KiwiSettings(),
) -> InstructXConfig:
    """InstructXConfig of a checkpoint: its switches are Kiwi-Edit's, its sizes those of the files.

    shapes: by name in an adapter of ours. denoiser: sizes of the DiT. Raises InputError when queries, connector, Qwen
    and DiT do not fit.
    """
    usual = kiwi_5b()
    counts = {key: shapes.get(f"queries.{key}", (0, 0))[0] for key in ("image", "video", "reference")}
    has_reference = all(part in shapes for part in REFERENCE_PARTS)
    tokens = settings.object_tokens or counts["reference"]
    instruction = dataclasses.replace(
        usual.instruction,
        num_image_queries=counts["image"],
        num_video_queries=counts["video"],
        num_reference_queries=counts["reference"] if has_reference else 0,
        reference_in_context=has_reference,
        max_reference_pixels=28 * 28 * tokens if tokens else usual.instruction.max_reference_pixels,
    )
    wide = dataclasses.replace(
        denoiser,
        source_embedder="own",
        source_scale="sigma",
        reference_embedder="own" if has_reference else "none",
        reference_position=settings.position,
        context=_connector_target(shapes, name, mllm, denoiser),
    )
    # Size and rate of the frames are those that the public Wan of these latents is run at.
    public = usual.sampling if wide.in_channels == usual.denoiser.in_channels else SamplingConfig()
    return InstructXConfig(
        name=name,
        profile="kiwi",
        mllm=mllm,
        lora=_lora_config(shapes) or usual.lora,
        instruction=instruction,
        denoiser=wide,
        vae=vae,
        sampling=dataclasses.replace(public, sigma_min=settings.sigma_min),
    )


def _connector_target(
    shapes: Shapes, name: str, mllm: MllmConfig, denoiser: DenoiserConfig
) -> Literal["direct", "text"]:
    first, last = shapes.get("connector.0.weight", ()), shapes.get("connector.2.weight", ())
    if len(first) != 2 or len(last) != 2 or not any(key.startswith("queries.") for key in shapes):
        raise InputError(
            f"{name} lacks queries or connector; it is no complete Kiwi-Edit checkpoint, download it again"
        )
    if first[1] != mllm.hidden_size:
        raise InputError(
            f"{name} was trained on a language model of width {first[1]}, this one has {mllm.hidden_size}; choose "
            "Qwen2.5-VL-3B (width 2048), or the one it was trained on"
        )
    if last[0] == denoiser.dim:
        return "direct"
    if last[0] == denoiser.text_dim:
        return "text"
    raise InputError(
        f"the connector of {name} ends at width {last[0]}, the DiT has {denoiser.dim}; choose the Wan of that width"
    )


def _lora_config(shapes: Shapes) -> LoraConfig | None:
    """Rank, layers and scope of the MLLM's LoRA; None without one. Its alpha is its rank, as Kiwi-Edit trains it."""
    half = ".lora_A.weight"
    layers = {key.removesuffix(half): shape for key, shape in shapes.items() if key.endswith(half)}
    if not layers:
        return None
    rank = max(shape[0] for shape in layers.values())
    found = {stem.rpartition(".")[2] for stem in layers}
    order = {target: n for n, target in enumerate(LoraConfig().targets)}
    targets = tuple(sorted(found, key=lambda target: (order.get(target, len(order)), target)))
    whole = any(stem.startswith("visual.") for stem in layers)
    return LoraConfig(rank=rank, alpha=rank, targets=targets, scope="mllm" if whole else "language_model")
