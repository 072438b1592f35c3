"""The source of a graph on its way to the DiT: read from the wire, fitted to the grid, encoded by the host's VAE.

Between the wire `source` of Source and Reference and the conditioning that it attaches.
Legend: B pictures, F frames, H W pixels, C channels; T R h w latent frames, references, height, width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...instructx_core.errors import InputError
from .fitting import FittedSource, Placement, fit_mask, fit_reference, fit_source
from .host_model import interruptible
from .keys import PICTURES
from .media import check_finite, checked_image
from .sampling import on_latent

if TYPE_CHECKING:
    from .dit_adapter import DitAdapter


@dataclasses.dataclass(frozen=True)
class OnWire:
    """What is on the wire. frames_FHWC: float in [0, 1], not rounded to 8 bits; fps in Hz and sound of a VIDEO."""

    frames_FHWC: Tensor
    fps: float | None = None
    sound: Any = None


def read_source(source: Any) -> OnWire:
    """IMAGE batch or VIDEO. Raises InputError for others."""
    if isinstance(source, Tensor):
        return OnWire(checked_image(source, "source"))
    if not hasattr(source, "get_components"):
        raise InputError(f"source is a {type(source).__name__}; connect an IMAGE (one or a batch) or a VIDEO")
    parts = source.get_components()
    return OnWire(checked_image(parts.images, "source"), float(parts.frame_rate), parts.audio)


def latent_of(source_BCTHW: Tensor, mask: Tensor | None, placement: Placement) -> dict[str, Tensor]:
    """The LATENT, with a MASK (H, W) or (F, H, W) as its noise mask, clipped to 0 to 1.

    Raises InputError for a mask of another shape, and for NaN.
    """
    if mask is None:
        return {"samples": source_BCTHW}
    if mask.ndim not in (2, 3) or 0 in mask.shape:
        raise InputError(
            f"mask has shape {tuple(mask.shape)}; connect a MASK: (pictures, height, width), with at least one picture"
        )
    check_finite(mask, "mask")
    mask_FHW = fit_mask(mask.reshape(-1, *mask.shape[-2:]), placement).clamp(0, 1)
    return {"samples": source_BCTHW, "noise_mask": on_latent(mask_FHW, source_BCTHW)}


def fit(
    frames_FHWC: Tensor, positive: Any, vae: Any, adapter: DitAdapter, rules: tuple[str, str]
) -> tuple[FittedSource, bool]:
    """The source on the grid, and whether its frames are pictures that are edited apart. rules: size, length.

    Raises InputError when the queries saw another number of pictures.
    """
    multiple = vae.spacial_compression_encode() * adapter.denoiser.patch_size[1]
    seen = next((options[PICTURES] for _, options in positive if PICTURES in options), 0)
    if seen not in (0, len(frames_FHWC)):
        raise InputError(
            f"Query Embeddings (InstructX) saw {seen} picture(s), this node has {len(frames_FHWC)}; connect the same "
            "source to both"
        )
    if seen < 2:
        stride = int(vae.temporal_compression_decode() or 1)
        return fit_source(frames_FHWC, multiple, stride, *rules), False
    fitted = fit_source(frames_FHWC, multiple, 1, *rules)
    (_, *source), (_, *grid) = fitted.placement.source, fitted.placement.grid
    placement = dataclasses.replace(fitted.placement, source=(1, *source), grid=(1, *grid))
    return dataclasses.replace(fitted, placement=placement), True


def encode(vae: Any, fitted: FittedSource, pictures: Sequence[Tensor], apart: bool) -> tuple[Tensor, Tensor | None]:
    """Latents (B, C, T, h, w) of the source and (1, C, R, h, w) of the references, as the VAE gives them.

    apart: B pictures of one frame, else one clip.
    """
    height, width = fitted.frames_FHWC.shape[1:3]
    with interruptible(vae):
        if apart:
            source_BCTHW = torch.cat([vae.encode(frame_HWC[None]) for frame_HWC in fitted.frames_FHWC])
        else:
            source_BCTHW = vae.encode(fitted.frames_FHWC)
        # one by one: as a clip the VAE would compress them in time
        singles = [vae.encode(fit_reference(picture, height, width)) for picture in pictures]
    return source_BCTHW, torch.cat(singles, dim=2) if singles else None
