"""Node Sampler: the usual sampling in one node, by the host's own samplers, decoded and cut to the source's size.

Last step before saving. Any KSampler does the same job; this one has the checkpoint's schedule ("instructx": the noise
levels of instructx_core's pipeline, so that a seed gives the same picture there), decodes and removes padding.
Legend: B batch, F frames, H W pixels, C channels, T latent frames, N steps.
"""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..instructx_core.errors import InputError
from ..instructx_core.sampling.sigmas import flow_sigmas, shift_sigmas
from .parts.fitting import cut_back
from .parts.host_model import draw_noise, interruptible, run_sampler, scheduled_sigmas, with_shift
from .parts.keys import KEY, SOURCE_NODE
from .parts.model_patch import is_patched
from .parts.schema import OWN_SCHEDULE, sampling_inputs, schema


class InstructXSampler(io.ComfyNode):
    """MODEL, positive, negative, LATENT, VAE + numbers -> IMAGE, LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "InstructXSampler",
            "Sampler",
            "Samples, decodes and cuts the result to the source's size and length. KSampler and VAE Decode work too.",
            search_aliases=["ksampler", "edit sampler"],
            inputs=[
                io.Model.Input("model", tooltip=f"From {SOURCE_NODE}."),
                io.Conditioning.Input("positive", tooltip=f"From {SOURCE_NODE}."),
                io.Conditioning.Input("negative", tooltip=f"From {SOURCE_NODE}; not computed at cfg 1, needed above."),
                io.Latent.Input("latent", tooltip=f"From {SOURCE_NODE}; may carry a noise mask."),
                io.Vae.Input("vae", tooltip="The checkpoint's VAE, the one that encoded the source."),
                *sampling_inputs(64),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="Part of the schedule that is run, 0.01 to 1. Below 1 it starts from the source's latent.",
                ),
            ],
            outputs=[
                io.Image.Output("IMAGE", display_name="image", tooltip="The edit, at the source's size and length."),
                io.Latent.Output("LATENT", display_name="latent", tooltip="Its latent, padding included."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        negative: Any,
        latent: dict[str, Any],
        vae: Any,
        seed: int,
        steps: int,
        cfg: float,
        shift: float,
        sampler_name: str,
        scheduler: str,
        denoise: float,
    ) -> io.NodeOutput:
        image, samples = sample(
            model, positive, negative, latent, vae, seed=seed, steps=steps, cfg=cfg, shift=shift,
            sampler_name=sampler_name, scheduler=scheduler, denoise=denoise,
        )  # fmt: skip
        return io.NodeOutput(image, {**latent, "samples": samples})


def sample(
    model: Any, positive: Any, negative: Any, latent: dict[str, Any], vae: Any, *, seed: int, steps: int, cfg: float,
    shift: float, sampler_name: str, scheduler: str, denoise: float, callback: Any = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(IMAGE without padding, sampled latent). callback: the host's, instead of its own progress and preview.

    Raises InputError for a model that is not patched, or another VAE.
    """
    if not is_patched(model):
        raise InputError(f"MODEL is not patched; take MODEL, positive, negative and LATENT from {SOURCE_NODE}")
    shifted = with_shift(model, shift)
    noise_BCTHW, start_BCTHW = draw_noise(shifted, latent, seed)
    if vae.latent_channels != start_BCTHW.shape[1]:
        raise InputError(
            f"VAE has {vae.latent_channels} channels, the latent {start_BCTHW.shape[1]}; use the VAE that "
            f"{SOURCE_NODE} has"
        )
    if scheduler == OWN_SCHEDULE:
        sigmas_N = own_sigmas(steps, shift, denoise)
    else:
        sigmas_N = scheduled_sigmas(shifted, steps, sampler_name, scheduler, denoise)
    sampled_BCTHW = run_sampler(
        shifted, noise_BCTHW, cfg, sampler_name, sigmas_N, positive, negative, start_BCTHW,
        latent.get("noise_mask"), seed, callback,
    )  # fmt: skip
    return decode(vae, sampled_BCTHW, latent.get(KEY)), sampled_BCTHW


def own_sigmas(steps: int, shift: float, denoise: float) -> Tensor:
    """(N + 1,) noise levels of instructx_core's pipeline; below denoise 1 the last N of a longer list, as KSampler."""
    total = steps if denoise > 0.9999 else int(steps / denoise)
    sigmas_N = torch.from_numpy(shift_sigmas(flow_sigmas(total), shift))
    return torch.cat((sigmas_N, sigmas_N.new_zeros(1)))[-(steps + 1) :]


def decode(vae: Any, latent_BCTHW: Tensor, keep: tuple[int, int, int] | None) -> Tensor:
    """Latents -> IMAGE batch (B * frames, H, W, 3) in [0, 1], without padding."""
    with interruptible(vae):
        frames = vae.decode(latent_BCTHW)
    return cut_back(frames if frames.ndim == 5 else frames[:, None], keep)
