"""Node Attention: which attention a MODEL computes with, and what that is on this card, in words.

Anywhere between the loader and the sampler; any model, made for Wan's. Our CUDA kernels are compiled, tested and timed
here on first use (some seconds, then kept), so that the sampler does not wait for it. What they do not take goes to the
override that was there before, else to the host's own attention.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io

from ..instructx_core.errors import InputError
from ..instructx_core.kernels import MODES, Session
from ..instructx_core.kernels.override import exact_on_failure, install
from .parts.schema import schema

WRAPPER = "instructx_attention"  # key of our wrapper in a ModelPatcher


class InstructXAttention(io.ComfyNode):
    """MODEL -> MODEL, text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "InstructXAttention",
            "Attention",
            "Chooses the model's attention: fast int8 kernels where this card passed their test, else the usual one.",
            search_aliases=["sage attention", "flash attention", "int8", "speed"],
            inputs=[
                io.Model.Input("model", tooltip="Any MODEL; the kernels are made for Wan's attention."),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default="auto",
                    tooltip="auto: the fastest that this card passed a test for; int8 changes the picture slightly. "
                    "exact: the same picture as without this node. int8: wherever it works. off: as without this node.",
                ),
            ],
            outputs=[
                io.Model.Output("MODEL", display_name="model", tooltip="The model with this attention."),
                io.String.Output("STRING", display_name="report", tooltip="What runs on this card, and why."),
            ],
        )

    @classmethod
    def execute(cls, model: Any, mode: str) -> io.NodeOutput:
        patched, text = with_attention(model, mode)
        return io.NodeOutput(patched, text)


def with_attention(model: Any, mode: str) -> tuple[Any, str]:
    """A clone of the MODEL whose attention goes through a session of this mode, and what that means here.

    Raises InputError for an unknown mode, also of the variable INSTRUCTX_ATTENTION.
    """
    from .parts.host_model import compute_dtype, wrapper_kinds

    try:
        session = Session(mode, type(model.model).__name__, "the host's attention")
    except ValueError as error:
        raise InputError(str(error)) from None
    patched = model.clone()
    options = patched.model_options
    options["transformer_options"] = install(options.get("transformer_options", {}), session)
    kind = wrapper_kinds().DIFFUSION_MODEL
    patched.remove_wrappers_with_key(kind, WRAPPER)
    if session.mode != "off":
        patched.add_wrapper_with_key(kind, WRAPPER, partial(exact_on_failure, session))
    return patched, session.preview(model.load_device, compute_dtype(model), *head_shape(model))


def head_shape(model: Any) -> tuple[int, int]:
    """(heads, head dim) of a Wan DiT; Wan's usual ones for models that do not tell."""
    denoiser = model.get_model_object("diffusion_model")
    heads, width = getattr(denoiser, "num_heads", None), getattr(denoiser, "dim", None)
    if isinstance(heads, int) and isinstance(width, int) and heads > 0:
        return heads, width // heads
    return 12, 128
