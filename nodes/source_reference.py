"""Node Source and Reference: MODEL and conditionings get the source's and the references' latents (paper 3.1).

After Connector, before any sampler. The model patch is in here, so it cannot be forgotten. The LATENT is the source's
own encoding: its grid is the output's, and noise masks and denoise below 1 work on it.
Legend: B pictures, F frames, H W pixels, C channels; T R h w latent frames, references, height, width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io
from torch import Tensor

from ..instructx_core.errors import InputError
from .parts.fitting import LENGTH_RULES, PAD, cut_back
from .parts.graph_checks import check_model
from .parts.host_model import constant, noise_shaped
from .parts.keys import (
    CONNECTOR_NODE,
    KEY,
    NO_NEGATIVE,
    PLACEMENT,
    REFERENCE_COUNT,
    REFERENCES,
    SOURCE,
)
from .parts.media import read_references
from .parts.model_patch import patch_model
from .parts.notes import Note, note, notes_ui
from .parts.schema import make, mask_input, reference_inputs, schema, size_rule_input, source_input, vae_input
from .parts.source import encode, fit, frames_of, latent_of

if TYPE_CHECKING:
    from .parts.dit_adapter import DitAdapter


class InstructXSourceReference(io.ComfyNode):
    """MODEL, positive, [negative], VAE, source, [mask], references -> MODEL, positive, negative, LATENT, IMAGE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "InstructXSourceReference",
            "Source and Reference",
            "Gives the model the picture or clip to edit, and references. Use model, positive, negative and latent for "
            "sampling: they belong together.",
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
                mask_input(),
            ],
            outputs=_outputs(),
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
        mask: Tensor | None = None,
        **references: Tensor | None,
    ) -> io.NodeOutput:
        adapter = adapter_of(positive, "positive")
        if negative is not None and adapter_of(negative, "negative") != adapter:
            raise InputError("positive and negative come from different adapters; use one Load Encoder for both")
        check_model(model, adapter)
        check_vae(vae, adapter)
        pictures = read_references(references)
        check_reference_count(positive, len(pictures))
        fitted, apart = fit(frames_of(source), positive, vae, adapter, (resize, length))
        source_BCTHW, references_BCRHW = encode(vae, fitted, pictures, apart)
        patched = patch_model(model, adapter)
        process = patched.get_model_object("latent_format").process_in
        extras = {SOURCE: noise_shaped(process(source_BCTHW))}
        stand_in = {} if negative is not None else {NO_NEGATIVE: constant(True)}
        entries = {PLACEMENT: fitted.placement}
        if references_BCRHW is not None:
            entries[REFERENCES] = references_BCRHW
        return io.NodeOutput(
            patched,
            attach(positive, extras, entries),
            attach(positive if negative is None else negative, extras | stand_in, entries),
            latent_of(source_BCTHW, mask, fitted.placement),
            cut_back(fitted.frames_FHWC[:, None] if apart else fitted.frames_FHWC[None], fitted.placement),
            ui=notes_ui([*fitted.notes, token_note(source_BCTHW, references_BCRHW, adapter)]),
        )


def _outputs() -> list[Any]:
    return [
        io.Model.Output("MODEL", display_name="model", tooltip="The patched model."),
        io.Conditioning.Output("POSITIVE", display_name="positive", tooltip="With source and references."),
        io.Conditioning.Output("NEGATIVE", display_name="negative", tooltip="With source and references."),
        io.Latent.Output("LATENT", display_name="latent", tooltip="The source's latent: sample this one."),
        io.Image.Output(
            "IMAGE",
            display_name="source",
            tooltip="The source as it is edited, cropped or trimmed where it had to be: before for Compare.",
        ),
    ]


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


def check_reference_count(positive: Any, count: int) -> None:
    """Raises InputError when the queries saw references that the DiT would not get, or the other way round."""
    for _, options in positive:
        seen = options.get(REFERENCE_COUNT)
        if seen is not None and int(seen) != count:
            raise InputError(
                f"Query Embeddings (InstructX) had {int(seen)} reference(s), this node has {count}; connect the same "
                "ones to both, or none"
            )


def attach(conditioning: Any, extras: dict[str, Any], entries: dict[str, Any]) -> list[Any]:
    """Every part of a CONDITIONING with source (extras) and references (entries); earlier ones of ours are replaced."""
    parts = []
    for context, options in conditioning:
        ours = (SOURCE, NO_NEGATIVE)
        kept = {key: value for key, value in options.get("model_conds", {}).items() if key not in ours}
        others = {key: value for key, value in options.items() if key not in (REFERENCES, PLACEMENT)}
        parts.append([context, others | {"model_conds": kept | extras} | entries])
    return parts


def token_note(source_BCTHW: Tensor, references_BCRHW: Tensor | None, adapter: DitAdapter) -> Note:
    """What the DiT will see, in tokens."""
    count, _, t, h, w = source_BCTHW.shape
    p, q, r = adapter.denoiser.patch_size
    cells = (h // q) * (w // r)
    values = {"tokens": t // p * cells, "grid": f"{t}x{h}x{w}"}
    if references_BCRHW is not None:
        more = references_BCRHW.shape[2]
        return note("tokens_and_references", **values, more=more * cells, references=more)
    return note("tokens_of_pictures", **values, count=count) if count > 1 else note("tokens", **values)
