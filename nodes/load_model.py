"""Node Load Model: a DiT and its VAE by name -> MODEL, VAE. The loader of the shipped tiny model, which no host lists.

The shipped files are in no list of the host: on an empty installation they would be what every foreign loader takes
first. Files of the artist's own can be chosen here as well as in the host's loaders (GGUF: only there).
"""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .parts import host, host_model
from .parts.model_files import DENOISERS, TINY, VAES, FileDate, file_dates, safetensors
from .parts.schema import make, schema


class InstructXLoadModel(io.ComfyNode):
    """DiT file, VAE file, number format -> MODEL, VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "InstructXLoadModel",
            "Load Model",
            "Loads a model and its VAE: the tiny model of this pack, or files of your own. Load Diffusion Model and "
            "Load VAE do the same for your own files.",
            search_aliases=["tiny model", "diffusion model", "vae loader", "wan"],
            inputs=[
                io.Combo.Input(
                    "diffusion_model",
                    options=safetensors(DENOISERS),
                    default=TINY,
                    tooltip="The Wan DiT: the tiny model of this pack, or a file of models/diffusion_models. A .gguf "
                    "needs the loader of its own pack.",
                ),
                io.Combo.Input(
                    "vae",
                    options=safetensors(VAES),
                    default=TINY,
                    tooltip="The VAE of the same model: that of the tiny model, or a file of models/vae.",
                ),
                make(
                    io.Combo,
                    "weight_dtype",
                    options=list(host_model.WEIGHT_DTYPES),
                    default="default",
                    advanced=True,
                    tooltip="Number format of the DiT's weights, as in Load Diffusion Model. default: as in the file.",
                ),
            ],
            outputs=[
                io.Model.Output("MODEL", display_name="model", tooltip="For Source and Reference (InstructX)."),
                io.Vae.Output("VAE", display_name="vae", tooltip="For Source and Reference, and Sampler (InstructX)."),
            ],
        )

    @classmethod
    def execute(cls, diffusion_model: str, vae: str, weight_dtype: str = "default") -> io.NodeOutput:
        return io.NodeOutput(
            host_model.load_denoiser_file(host.model_path(DENOISERS, diffusion_model), weight_dtype),
            host_model.load_vae_file(host.model_path(VAES, vae)),
        )

    @classmethod
    def fingerprint_inputs(cls, diffusion_model: str, vae: str, **_: Any) -> list[FileDate]:
        """Changes when a file is replaced, so that the host loads it anew; an absent file is reported by execute."""
        try:
            return file_dates([host.model_path(DENOISERS, diffusion_model), host.model_path(VAES, vae)])
        except ValueError:
            return []
