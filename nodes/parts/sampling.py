"""Sampling by the host's own loop, with its schedules or the checkpoint's, decoded and cut to the source's size.

Sampler runs it once, Long Video once a window. "instructx" are the noise levels of instructx_core's pipeline, so that a
seed gives the same picture there.
Legend: B batch, F frames, H W pixels, C channels, T latent frames, N steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...instructx_core.errors import InputError
from ...instructx_core.sampling.sigmas import flow_sigmas, shift_sigmas
from .fitting import Placement, cut_back, fit_mask
from .host_model import host_noise, interruptible, run_sampler, scheduled_sigmas, with_shift
from .keys import PLACEMENT, SOURCE_NODE
from .media import check_finite
from .model_patch import is_patched
from .settings import PIPELINE_SCHEDULE, SamplerInputs, SamplingSettings


def sample_edit(
    edit: SamplerInputs, vae: Any, settings: SamplingSettings, callback: Callable[..., None] | None = None
) -> tuple[Tensor, Tensor]:
    """(IMAGE without padding, sampled latent). callback: the host's, instead of its own progress and preview.

    Raises InputError for a model that is not patched, or another VAE.
    """
    if not is_patched(edit.model):
        raise InputError(f"MODEL is not patched; take MODEL, positive, negative and LATENT from {SOURCE_NODE}")
    shifted = with_shift(edit.model, settings.shift)
    noise_BCTHW, start_BCTHW = host_noise(shifted, edit.latent, settings.seed)
    if vae.latent_channels != start_BCTHW.shape[1]:
        raise InputError(
            f"VAE has {vae.latent_channels} channels, the latent {start_BCTHW.shape[1]}; use the VAE that "
            f"{SOURCE_NODE} has"
        )
    if settings.scheduler == PIPELINE_SCHEDULE:
        sigmas_N = pipeline_sigmas(settings.steps, settings.shift, settings.denoise)
    else:
        sigmas_N = scheduled_sigmas(shifted, settings)
    placement = placement_of(edit.positive)
    edit = dataclasses.replace(edit, model=shifted, latent=with_placed_mask(edit.latent, placement))
    sampled_BCTHW = run_sampler(edit, noise_BCTHW, start_BCTHW, sigmas_N, settings, callback)
    return decode(vae, sampled_BCTHW, placement), sampled_BCTHW


def placement_of(conditioning: Any) -> Placement | None:
    """Where the source that a conditioning carries lies on the grid.

    Not from the LATENT: another node may have scaled or cut it, and its entries ride along.
    """
    return next((options[PLACEMENT] for _, options in conditioning if PLACEMENT in options), None)


def with_placed_mask(latent: dict[str, Any], placement: Placement | None) -> dict[str, Any]:
    """A LATENT whose noise mask, drawn on the source, lies on the same things of the fitted source."""
    mask = latent.get("noise_mask")
    if mask is None or placement is None or mask.ndim > 4:  # five dimensions: on the latent's grid already
        return latent
    if tuple(mask.shape[-2:]) == tuple(latent["samples"].shape[-2:]):
        return latent
    mask_FHW = fit_mask(mask.reshape(-1, *mask.shape[-2:]), placement)
    return {**latent, "noise_mask": on_latent(mask_FHW, latent["samples"])}


def on_latent(mask_FHW: Tensor, samples_BCTHW: Tensor) -> Tensor:
    """A mask a frame as the host reads it for clips, (F, 1, H, W), or a mask a picture, (B, 1, 1, H, W)."""
    pictures, frames = samples_BCTHW.shape[0], samples_BCTHW.shape[2]
    if frames == 1 and pictures > 1 and len(mask_FHW) == pictures:
        return mask_FHW[:, None, None]
    return mask_FHW[:, None]


def pipeline_sigmas(steps: int, shift: float, denoise: float) -> Tensor:
    """(N + 1,) noise levels of instructx_core's pipeline; below denoise 1 the last N of a longer list, as KSampler."""
    total = steps if denoise > 0.9999 else int(steps / denoise)
    sigmas_N = torch.from_numpy(shift_sigmas(flow_sigmas(total), shift))
    return torch.cat((sigmas_N, sigmas_N.new_zeros(1)))[-(steps + 1) :]


def decode(vae: Any, latent_BCTHW: Tensor, placement: Placement | None) -> Tensor:
    """Latents -> IMAGE batch (B * frames, H, W, 3) in [0, 1], without padding. Raises InputError for NaN."""
    with interruptible(vae):
        frames = vae.decode(latent_BCTHW)
    check_finite(frames, "the edit")
    return cut_back(frames if frames.ndim == 5 else frames[:, None], placement)
