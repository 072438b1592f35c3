"""Node Sampler: the usual sampling in one node, by the host's own samplers, decoded and cut to the source's size.

Last step before saving. Any KSampler does the same job; this one has the checkpoint's schedule ("instructx": the noise
levels of instructx_core's pipeline, so that a seed gives the same picture there), decodes and removes padding.
"""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .parts.keys import SOURCE_NODE
from .parts.sampling import sample_edit
from .parts.schema import sampling_inputs, schema
from .parts.settings import DENOISE, SamplerInputs, SamplingSettings


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
                    min=DENOISE[0],
                    max=DENOISE[1],
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
        settings = SamplingSettings(seed, steps, cfg, shift, sampler_name, scheduler, denoise)
        image, samples = sample_edit(SamplerInputs(model, positive, negative, latent), vae, settings)
        return io.NodeOutput(image, {**latent, "samples": samples})
