"""Where a pipeline that an earlier version saved looks for the encoder, by the name in its model_index.json."""

from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    """The encoder's classes; imported when they are asked for."""
    if name in ("InstructXEncoder", "ModelMixin"):
        return getattr(importlib.import_module(".model", __package__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
