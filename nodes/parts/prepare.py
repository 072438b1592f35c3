"""MODEL, conditionings and LATENT of an edit: source and references encoded, the model patched, all of it checked.

What the node Source and Reference does, and Long Video for every window; sampling.py takes the result.
Legend: B pictures, C channels; T R h w latent frames, references, height, width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...instructx_core.errors import InputError
from ...instructx_core.formats.layouts.public_models import vae_for
from .fitting import FittedSource
from .graph_checks import check_model
from .host_model import constant, noise_shaped
from .keys import CONNECTOR_NODE, FPS, KEY, NO_NEGATIVE, PLACEMENT, REFERENCE_COUNT, REFERENCES, SOURCE
from .model_patch import patch_model
from .settings import SamplerInputs
from .source import encode, fit, latent_of, read_source

if TYPE_CHECKING:
    from .dit_adapter import DitAdapter


@dataclass(frozen=True, kw_only=True)
class EditMaterial:
    """What an edit is made of. source: an IMAGE batch or a VIDEO. rules: for its size, for its length."""

    model: Any
    vae: Any
    source: Any
    references: Sequence[Tensor]
    rules: tuple[str, str]
    mask: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """The edit, and what it was made of. apart: the source is pictures, not a clip. fps: Hz. sound: of a VIDEO."""

    edit: SamplerInputs
    fitted: FittedSource
    apart: bool
    adapter: DitAdapter
    source_BCTHW: Tensor
    references_BCRHW: Tensor | None
    fps: float
    sound: Any


def prepare_edit(given: EditMaterial, positive: Any, negative: Any = None) -> Preparation:
    """Raises InputError for parts that do not belong together. negative: None at cfg 1."""
    adapter = adapter_of(positive, "positive")
    if negative is not None and adapter_of(negative, "negative") != adapter:
        raise InputError("positive and negative come from different adapters; use one Load Encoder for both")
    check_model(given.model, adapter)
    check_vae(given.vae, adapter)
    check_reference_count(positive, len(given.references))
    on_wire = read_source(given.source)
    fitted, apart = fit(on_wire.frames_FHWC, positive, given.vae, adapter, given.rules)
    source_BCTHW, references_BCRHW = encode(given.vae, fitted, given.references, apart)
    patched = patch_model(given.model, adapter)
    process = patched.get_model_object("latent_format").process_in
    extras = {SOURCE: noise_shaped(process(source_BCTHW))}
    stand_in = {} if negative is not None else {NO_NEGATIVE: constant(True)}
    entries = {PLACEMENT: fitted.placement}
    if references_BCRHW is not None:
        entries[REFERENCES] = references_BCRHW
    edit = SamplerInputs(
        patched,
        attach(positive, extras, entries),
        attach(positive if negative is None else negative, extras | stand_in, entries),
        latent_of(source_BCTHW, given.mask, fitted.placement),
    )
    return Preparation(
        edit=edit,
        fitted=fitted,
        apart=apart,
        adapter=adapter,
        source_BCTHW=source_BCTHW,
        references_BCRHW=references_BCRHW,
        fps=on_wire.fps or positive[0][1].get(FPS, 0.0),
        sound=on_wire.sound,
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
            f"VAE has {vae.latent_channels} channels for {kind}, {adapter.name} needs {want} for clips; load "
            f"{vae_for(want)}"
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
