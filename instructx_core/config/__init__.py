"""Every choice of model and sampling as frozen dataclasses (model.py), and the presets (presets.py).

reading.py turns JSON of a file, which may be damaged or hostile, into these; older.py completes what was saved before a
field was there. Standard library only: everything else stands on this room.
"""

from .model import (
    EMBEDDERS,
    LORA_TARGETS,
    SYSTEM_PROMPT,
    DenoiserConfig,
    InstructionConfig,
    InstructXConfig,
    LoraConfig,
    MllmConfig,
    ReferencePosition,
    SamplingConfig,
    SourceScale,
    TimestepRounding,
    VaeConfig,
    VisionConfig,
)
from .presets import PRESETS, kiwi_5b, paper_14b, preset, tiny, with_parity

__all__ = [
    "EMBEDDERS",
    "LORA_TARGETS",
    "PRESETS",
    "SYSTEM_PROMPT",
    "DenoiserConfig",
    "InstructXConfig",
    "InstructionConfig",
    "LoraConfig",
    "MllmConfig",
    "ReferencePosition",
    "SamplingConfig",
    "SourceScale",
    "TimestepRounding",
    "VaeConfig",
    "VisionConfig",
    "kiwi_5b",
    "paper_14b",
    "preset",
    "tiny",
    "with_parity",
]
