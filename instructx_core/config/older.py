"""Configs saved before a field was there, completed by what the model is.

The first files say nothing of their model's usual size (width, height, frames). What the model is tells it:
48 latent channels are Wan2.2-TI2V-5B, an MLLM that sees frames of 56x56 pixels belongs to the procedural world
`shapes`, and all else was made for Wan2.1, which is the default. Standard library only.
"""

from __future__ import annotations

from typing import Any

from .usual_size import SHAPES, SHAPES_PIXELS, SHAPES_TRAINED_ON, WAN22_5B


def add_usual_size(data: Any) -> Any:
    """`data` of a config, with its usual size where it has none. What is no config is returned as it is."""
    parts = [data.get(name, {}) for name in ("sampling", "vae", "instruction")] if isinstance(data, dict) else [data]
    if not all(isinstance(part, dict) for part in parts):
        return data
    sampling, vae, instruction = parts
    if sampling.keys() & {"width", "height", "frames"}:
        return data
    if instruction.get("max_pixels") == SHAPES_PIXELS:
        return {"trained_on": SHAPES_TRAINED_ON} | data | {"sampling": SHAPES | sampling}
    if vae.get("z_dim") == 48:
        return data | {"sampling": WAN22_5B | sampling}
    return data
