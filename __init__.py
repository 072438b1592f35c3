"""InstructX as a ComfyUI node pack: the entry that the host calls.

Imports nothing here, so that the folder can be collected by pytest and be called anything; the nodes live in `nodes/`,
the library in `instructx_core/`.
"""

from __future__ import annotations

from typing import Any

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> Any:
    """The host's extension object (V3): registers the model folder of the shipped model and the nodes."""
    from .nodes import extension

    return extension()
