"""InstructX: instruction editing of images and videos with an MLLM-guided Wan DiT (library; no ComfyUI needed).

Data flows one way: media -> encoder -> connector -> conditioning, denoiser -> pipeline -> media. The names
below are the public API. They load on first use, so that `import instructx_core` costs nothing (no transformers,
diffusers, peft).

    from instructx_core import load_pipeline, edit_file
    report = edit_file(load_pipeline(), "in.mp4", "make the circle blue", output="out.mp4")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .config import InstructXConfig, preset
    from .editing.edit import edit_file
    from .editing.report import EditReport
    from .errors import InputError
    from .pipeline import InstructXPipeline
    from .weights import load_pipeline

_HOME = {
    "InstructXConfig": "config",
    "preset": "config",
    "InputError": "errors",
    "InstructXPipeline": "pipeline",
    "load_pipeline": "weights",
    "edit_file": "editing.edit",
    "EditReport": "editing.report",
}

__all__ = [
    "EditReport",
    "InputError",
    "InstructXConfig",
    "InstructXPipeline",
    "__version__",
    "edit_file",
    "load_pipeline",
    "preset",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
