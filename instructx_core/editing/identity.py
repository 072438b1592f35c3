"""Which long edit is this: everything that decides its result, by content, so that finished windows are never mixed.

Kept by windows/state.py with the finished windows, and compared when an edit is resumed. Every field of the request and
of its groups is in it, a new one too, as it was settled or as it was given.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..digests import file_digest, model_digest, picture_digest
from ..version import __version__
from .look import Look
from .paste import PasteMask
from .request import contents
from .settings import Settings
from .windows.options import Windowing

if TYPE_CHECKING:
    from ..pipeline import InstructXPipeline


# Fields for which another entry stands: size, window, the fields of WindowOptions; the folder is named after output.
REPLACED = ("max_pixels", "frames", "seconds", "windows", "output")


def identity(pipe: InstructXPipeline, look: Look, settings: Settings, windowing: Windowing) -> dict[str, Any]:
    """By name, as JSON values."""
    # Names with an underscore are notes of diffusers, one of them in the order of a set: another in every process.
    scheduler = {name: value for name, value in pipe.scheduler.config.items() if not name.startswith("_")}
    running = pipe.instructx_config.to_json() + json.dumps(scheduler, sort_keys=True, default=str)
    request, sampling, box = look.request, settings.sampling, settings.box
    known = {
        "source": look.source_digest or file_digest(request.source),
        "references": [picture_digest(picture) for picture in look.references],
        "steps": sampling.steps,
        "guidance": sampling.guidance,
        "seed": sampling.seed,
        "keep_outside": _mask_identity(look.mask),
    }
    chosen = contents(request, {**known, **dict.fromkeys(REPLACED)}) | contents(
        windowing.options, dict.fromkeys(REPLACED)
    )
    return {name: value for name, value in chosen.items() if name not in REPLACED} | {
        "version": __version__,
        "model": model_digest(running, pipe.vae, pipe.transformer, pipe.encoder),
        "length": look.frames,
        "size": [box.height, box.width],
        "window": windowing.size,
    }


def _mask_identity(mask: PasteMask | None) -> dict[str, Any] | None:
    if mask is None:
        return None
    return contents(mask.keep, {"mask": None if mask.weight_HW is None else picture_digest(mask.weight_HW)})
