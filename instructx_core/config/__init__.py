"""Every choice of model and sampling as frozen dataclasses (model.py), and the presets (presets.py).

reading.py turns JSON of a file, which may be damaged or hostile, into these; older.py completes what was saved before a
field was there. Standard library only: everything else stands on this room.
"""

from .design import DESIGNS, Design, DesignConfig, MetaQueryConfig, QFormerConfig, TextEncoderConfig
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
from .presets import PRESETS, kiwi_5b, paper_14b, preset, tiny, with_design, with_parity

__all__ = [
    "DESIGNS",
    "EMBEDDERS",
    "LORA_TARGETS",
    "PRESETS",
    "SYSTEM_PROMPT",
    "DenoiserConfig",
    "Design",
    "DesignConfig",
    "InstructXConfig",
    "InstructionConfig",
    "LoraConfig",
    "MetaQueryConfig",
    "MllmConfig",
    "QFormerConfig",
    "ReferencePosition",
    "SamplingConfig",
    "SourceScale",
    "TextEncoderConfig",
    "TimestepRounding",
    "VaeConfig",
    "VisionConfig",
    "kiwi_5b",
    "paper_14b",
    "preset",
    "tiny",
    "with_design",
    "with_parity",
]
