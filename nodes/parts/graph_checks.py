"""What a wrong graph says: one sentence that names the node to connect, before any of the host's own errors.

Called by Source and Reference (check_model) and by the patch of the model (the others).
Legend: B batch, C latent channels, T latent frames, R reference frames, H W latent size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...instructx_core.errors import InputError
from .keys import CONNECTOR_NODE, SOURCE_NODE

if TYPE_CHECKING:
    from .dit_adapter import DitAdapter


def check_conditioning(dim: int, context: Tensor | None, source: Tensor | None, no_negative: bool) -> None:
    """Raises InputError unless the conditioning went through Connector and Source and Reference."""
    if no_negative:
        raise InputError(f"cfg is not 1 but {SOURCE_NODE} has no negative; connect one or set cfg to 1")
    width = None if context is None else context.shape[-1]
    if width != dim:
        raise InputError(
            f"a conditioning of width {width} reached a model patched for InstructX, whose context is {dim} wide: text "
            f"encoder (T5, CLIP) prompts do not fit; take positive and negative from {SOURCE_NODE}"
        )
    if source is None:
        raise InputError(
            f"a conditioning without a source reached a model patched for InstructX; take positive and negative from "
            f"{SOURCE_NODE}, not from {CONNECTOR_NODE} directly"
        )


# Entries that other nodes put into a conditioning, and the part of a Wan DiT that reads them.
FOREIGN = {
    "vace_frames": ("a control video or reference for VACE", "vace_patch_embedding"),
    "concat_latent_image": ("a start image for image-to-video", None),
    "clip_vision_output": ("a CLIP vision picture for image-to-video", "img_emb"),
    "reference_latents": ("reference latents", "ref_conv"),
    "audio_embed": ("sound for speech-to-video", "audio_injector"),
    "camera_conditions": ("a camera path", "control_adapter"),
}


def check_foreign(conds: Mapping[str, Any], denoiser: Any) -> None:
    """Raises InputError for an entry that the host would drop without a word, since this DiT has no part for it."""
    for group in conds.values():
        for name in FOREIGN.keys() & {key for cond in group or () for key in cond}:
            what, part = FOREIGN[name]
            if part is None or getattr(denoiser, part, None) is None:
                raise InputError(
                    f"the conditioning carries {what} ({name}) from a node behind {SOURCE_NODE}, and this model would "
                    f"ignore it; connect positive and negative of {SOURCE_NODE} to the sampler directly"
                )


def explain_width(text_embedding: Any, args: tuple[Any, ...]) -> None:
    """Forward pre-hook of a DiT's text embedding: what is wrong when our context is sent through it, as NAG does.

    Raises InputError in place of the host's message about matrix shapes; changes nothing else.
    """
    if "forward" in text_embedding.__dict__ or not args:  # lent by denoiser_patch.py: our context passes as it is
        return
    reads, gives = text_embedding[0].in_features, text_embedding[-1].out_features
    if args[0].shape[-1] == gives != reads:
        raise InputError(
            f"a node sends the conditioning of {CONNECTOR_NODE} through the model's text embedding, which reads T5 "
            "features (NAG nodes do that); give that node a conditioning of CLIP Text Encode with Wan's T5"
        )


def check_grids(x: Tensor, source_BCTHW: Tensor, references_BCRHW: Tensor | None) -> None:
    """Raises InputError unless source and references lie on the grid of the noisy latent (B, C, T, H, W)."""
    if source_BCTHW.shape[1:] != x.shape[1:]:
        raise InputError(
            f"the source latent is {_grid(source_BCTHW)}, the latent being sampled {_grid(x)} (channels, frames, "
            f"height, width); sample the LATENT of {SOURCE_NODE}"
        )
    if references_BCRHW is not None and references_BCRHW.shape[3:] != x.shape[3:]:
        raise InputError(
            f"a reference covers {_grid(references_BCRHW)[2:]} latent cells, the conditioning only an area of "
            f"{_grid(x)[2:]}; use Conditioning (Set Mask) with set_cond_area 'default', not Conditioning (Set Area)"
        )


def _grid(latent_BCTHW: Tensor) -> tuple[int, ...]:
    return tuple(latent_BCTHW.shape[1:])


def check_model(model: Any, adapter: DitAdapter) -> None:
    """Raises InputError unless MODEL is a Wan text-to-video DiT of the adapter's width and channels."""
    denoiser = model.get_model_object("diffusion_model")
    if not all(hasattr(denoiser, name) for name in ("patch_embedding", "text_embedding", "head", "dim", "in_dim")):
        raise InputError(f"MODEL is a {type(denoiser).__name__}, not a Wan DiT; load the file for {adapter.name}")
    want = adapter.denoiser
    if denoiser.dim != want.dim:
        raise InputError(
            f"MODEL is {denoiser.dim} wide, the adapter {adapter.name} was made for {want.dim}; load the DiT and the "
            "adapter of one checkpoint"
        )
    if denoiser.in_dim != want.in_channels:
        raise InputError(
            f"MODEL takes {denoiser.in_dim} channels, the adapter {adapter.name} {want.in_channels}; use a "
            "text-to-video Wan of the adapter's family, not an image-to-video one"
        )
