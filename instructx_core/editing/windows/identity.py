"""Which long edit is this: everything that decides its result, by content, so that finished windows are never mixed.

Kept by state.py with the finished windows, and compared when an edit is resumed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ...digests import file_digest, model_digest, picture_digest
from ...version import __version__
from ..look import Look
from ..paste import PasteMask
from ..settings import Settings
from .options import Windowing

if TYPE_CHECKING:
    from ...pipeline import InstructXPipeline


def identity(pipe: InstructXPipeline, look: Look, settings: Settings, windowing: Windowing) -> dict[str, Any]:
    """By name, as JSON values."""
    # Names with an underscore are notes of diffusers, one of them in the order of a set: another in every process.
    scheduler = {name: value for name, value in pipe.scheduler.config.items() if not name.startswith("_")}
    running = pipe.instructx_config.to_json() + json.dumps(scheduler, sort_keys=True, default=str)
    options, box = windowing.options, settings.box
    return {
        "version": __version__,
        "model": model_digest(running, pipe.vae, pipe.transformer, pipe.encoder),
        "source": file_digest(look.request.source),
        "frames": look.frames,
        "references": [picture_digest(picture) for picture in look.references],
        "instruction": look.request.instruction,
        "steps": settings.sampling.steps,
        "guidance": settings.sampling.guidance,
        "seed": settings.sampling.seed,
        "size": [box.height, box.width],
        "window": windowing.size,
        "overlap": options.overlap,
        "context": options.context,
        "match_colour": options.match_colour,
        "joins": options.joins,
        "keep_outside": _mask_identity(look.mask),
    }


def _mask_identity(mask: PasteMask | None) -> list[Any] | None:
    if mask is None:
        return None
    return [None if mask.weight_HW is None else picture_digest(mask.weight_HW), mask.keep.feather]
