"""The adapter: what InstructX adds to Qwen2.5-VL and Wan, with the config that says how all of it works together.

Every layout of checkpoints.py gives one: a file of ours, a Kiwi-Edit training file, a Kiwi-Edit diffusers folder. Needs
neither diffusers nor peft, so that ComfyUI nodes can use it.
"""

from __future__ import annotations

from pathlib import Path

from ...config import ReferencePosition
from .checkpoint_layout import Adapter, OpenModel
from .checkpoints import open_model
from .weight_file import OpenFiles, Paths

__all__ = ["Adapter", "load_adapter", "read_adapter"]


def load_adapter(
    path: str | Path,
    *,
    text_encoder: Paths | None = None,
    denoiser: str | Path | None = None,
    vae: str | Path | None = None,
    reference_position: ReferencePosition | None = None,
) -> Adapter:
    """The adapter of a checkpoint, of any layout that checkpoints.py has; see read_adapter."""
    with OpenFiles() as opened:
        model = open_model(opened, path, text_encoder=text_encoder, denoiser=denoiser, vae=vae)
        return read_adapter(model, reference_position)


def read_adapter(model: OpenModel, position: ReferencePosition | None = None) -> Adapter:
    """The adapter of an opened model, with its config.

    The other files give a Kiwi-Edit config its sizes; without them those of Qwen2.5-VL-3B and the public Wan models are
    taken, and a training file that holds the whole DiT needs no denoiser. position: overrides what config or name say
    about the reference; None keeps that. Raises InputError when it is no adapter, or parts do not fit.
    """
    return model.layout.adapter(model, position)
