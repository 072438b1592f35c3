"""Node Source and Reference: MODEL and conditionings get the source's and the references' latents (paper 3.1).

After Connector, before any sampler. The model patch is in here, so it cannot be forgotten. The LATENT is the source's
own encoding: its grid is the output's, and noise masks and denoise below 1 work on it.
Legend: F frames, H W pixels, C channels; T R h w latent frames, references, height, width; D width, L tokens.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..instructx_core.errors import InputError
from .parts.fitting import LENGTH_RULES, PAD, Fitted, fit_reference, fit_source
from .parts.graph_checks import check_model
from .parts.host_model import constant, interruptible, noise_shaped
from .parts.keys import CONNECTOR_NODE, KEY, NO_NEGATIVE, REFERENCE_COUNT, REFERENCES, SOURCE
from .parts.media import read_references
from .parts.model_patch import patch_model
from .parts.schema import make, reference_inputs, schema, size_rule_input, source_input, vae_input

if TYPE_CHECKING:
    from .parts.dit_adapter import DitAdapter

logger = logging.getLogger("instructx")


class InstructXSourceReference(io.ComfyNode):
    """MODEL, positive, [negative], VAE, source, references -> MODEL, positive, negative, LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "InstructXSourceReference",
            "Source and Reference",
            "Gives the model the picture or clip to edit, and references. Use all four outputs for sampling: they "
            "belong together.",
            search_aliases=["edit", "apply source", "reference image", "video edit"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The Wan DiT of the checkpoint, from any loader; LoRA before or behind."
                ),
                io.Conditioning.Input("positive", tooltip=f"From {CONNECTOR_NODE}."),
                vae_input(),
                source_input("The picture or clip to edit. The result has its size and length."),
                size_rule_input(),
                io.Combo.Input(
                    "length",
                    options=list(LENGTH_RULES),
                    default=PAD,
                    tooltip="What to do when a clip has not 4n+1 frames (1, 5, 9, ...). pad: repeat the last frame; "
                    "Sampler (InstructX) cuts it off again. trim: drop up to 3 frames at the end. error: stop and "
                    "say so.",
                ),
                make(
                    io.Conditioning,
                    "negative",
                    optional=True,
                    tooltip=f"For cfg above 1: from a second {CONNECTOR_NODE} whose queries drop the instruction. "
                    "Without it sample at cfg 1.",
                ),
                *reference_inputs(),
            ],
            outputs=[
                io.Model.Output("MODEL", display_name="model", tooltip="The patched model."),
                io.Conditioning.Output("POSITIVE", display_name="positive", tooltip="With source and references."),
                io.Conditioning.Output("NEGATIVE", display_name="negative", tooltip="With source and references."),
                io.Latent.Output("LATENT", display_name="latent", tooltip="The source's latent: sample this one."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        vae: Any,
        source: Any,
        resize: str,
        length: str,
        negative: Any = None,
        **references: Tensor | None,
    ) -> io.NodeOutput:
        adapter = adapter_of(positive, "positive")
        if negative is not None and adapter_of(negative, "negative") != adapter:
            raise InputError("positive and negative come from different adapters; use one Load Encoder for both")
        check_model(model, adapter)
        check_vae(vae, adapter)
        pictures = read_references(references)
        check_references(positive, len(pictures))
        multiple = vae.spacial_compression_encode() * adapter.denoiser.patch_size[1]
        fitted = fit_source(frames_of(source), multiple, int(vae.temporal_compression_decode() or 1), resize, length)
        source_BCTHW, references_BCRHW = encode(vae, fitted, pictures)
        patched = patch_model(model, adapter)
        process = patched.get_model_object("latent_format").process_in
        extras = {SOURCE: noise_shaped(process(source_BCTHW))}
        stand_in = {} if negative is not None else {NO_NEGATIVE: constant(True)}
        report = [*fitted.notes, describe(source_BCTHW, references_BCRHW, adapter)]
        for line in report:
            logger.info("InstructX: %s", line)
        return io.NodeOutput(
            patched,
            attach(positive, extras, references_BCRHW),
            attach(positive if negative is None else negative, extras | stand_in, references_BCRHW),
            {"samples": source_BCTHW, KEY: fitted.keep},
            ui={"text": report},
        )


def adapter_of(conditioning: Any, name: str) -> DitAdapter:
    """The adapter that Connector put into a conditioning. Raises InputError when one of its parts has none."""
    adapters = [options.get(KEY) for _, options in conditioning]
    if not adapters or any(adapter is None for adapter in adapters):
        raise InputError(
            f"{name} does not come from {CONNECTOR_NODE}; text encoder (T5, CLIP) prompts cannot steer this model: "
            f"connect the conditioning of {CONNECTOR_NODE}"
        )
    if any(adapter != adapters[0] for adapter in adapters):
        raise InputError(f"the parts of {name} come from different adapters; use one Load Encoder (InstructX) for all")
    return adapters[0]


def check_vae(vae: Any, adapter: DitAdapter) -> None:
    """Raises InputError unless the VAE is a video VAE with the model's latent channels."""
    want = adapter.denoiser.in_channels
    if vae.latent_channels != want or vae.latent_dim != 3:
        kind = "clips" if vae.latent_dim == 3 else "single images"
        raise InputError(
            f"VAE has {vae.latent_channels} channels for {kind}, {adapter.name} needs {want} for clips; load the "
            f"{'Wan2.2' if want == 48 else 'Wan2.1'} VAE"
        )


def check_references(positive: Any, count: int) -> None:
    """Raises InputError when the queries saw references that the DiT would not get, or the other way round."""
    for _, options in positive:
        seen = options.get(REFERENCE_COUNT)
        if seen is not None and int(seen) != count:
            raise InputError(
                f"Query Embeddings (InstructX) had {int(seen)} reference(s), this node has {count}; connect the same "
                "ones to both, or none"
            )


def frames_of(source: Any) -> Tensor:
    """IMAGE batch or VIDEO -> (F, H, W, 3) float in [0, 1], not rounded to 8 bits. Raises InputError for others."""
    if not isinstance(source, Tensor) and not hasattr(source, "get_components"):
        raise InputError(f"source is a {type(source).__name__}; connect an IMAGE (one or a batch) or a VIDEO")
    frames = source if isinstance(source, Tensor) else source.get_components().images
    if frames.ndim != 4 or frames.shape[-1] not in (3, 4) or 0 in frames.shape:
        raise InputError(f"source has shape {tuple(frames.shape)}; connect an IMAGE with at least one picture")
    return frames[..., :3]


def encode(vae: Any, fitted: Fitted, pictures: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Latents (1, C, T, h, w) of the source and (1, C, R, h, w) of the references, as the VAE gives them."""
    height, width = fitted.frames_FHWC.shape[1:3]
    with interruptible(vae):
        source_BCTHW = vae.encode(fitted.frames_FHWC)
        # one by one: as a clip the VAE would compress them in time
        singles = [vae.encode(fit_reference(picture, height, width)) for picture in pictures]
    return source_BCTHW, torch.cat(singles, dim=2) if singles else None


def attach(conditioning: Any, extras: dict[str, Any], references_BCRHW: Tensor | None) -> list[Any]:
    """Every part of a CONDITIONING with source and references; earlier ones of ours are replaced."""
    parts = []
    for context, options in conditioning:
        ours = (SOURCE, NO_NEGATIVE)
        kept = {key: value for key, value in options.get("model_conds", {}).items() if key not in ours}
        changed = {key: value for key, value in options.items() if key != REFERENCES} | {"model_conds": kept | extras}
        if references_BCRHW is not None:
            changed[REFERENCES] = references_BCRHW
        parts.append([context, changed])
    return parts


def describe(source_BCTHW: Tensor, references_BCRHW: Tensor | None, adapter: DitAdapter) -> str:
    """What the DiT will see, in tokens."""
    _, _, t, h, w = source_BCTHW.shape
    p, q, r = adapter.denoiser.patch_size
    cells = (h // q) * (w // r)
    line = f"{t // p * cells} tokens (latent {t}x{h}x{w})"
    if references_BCRHW is not None:
        line += f" + {references_BCRHW.shape[2] * cells} for {references_BCRHW.shape[2]} reference(s)"
    return line
