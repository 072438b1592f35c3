"""Names of Qwen2.5-VL's tensors: both generations of the model hub <-> Qwen2_5_VLModel (language_model.*, visual.*)."""

from __future__ import annotations

import re

from ..containers.tensor_source import TensorSource


def mllm_to_original(key: str) -> str:
    """Name in Qwen2_5_VLModel -> the original repository's (model.*, visual.*); LoRA's base layers are unwrapped."""
    return re.sub(r"^language_model\.", "model.", key).replace(".base_layer.", ".")


def mllm_from_original(key: str) -> str | None:
    """The original repository's name, or transformers' newer one -> name in Qwen2_5_VLModel; None for the lm_head."""
    if key.startswith("lm_head."):
        return None
    key = re.sub(r"^model\.(language_model|visual)\.", r"\1.", key)
    return re.sub(r"^model\.", "language_model.", key)


def qwen_shapes(source: TensorSource) -> dict[str, tuple[int, ...]]:
    """Shapes by name in Qwen2_5_VLModel; the lm_head is left out."""
    named = ((mllm_from_original(key), source.shape(key)) for key in source.keys())
    return {name: shape for name, shape in named if name is not None}
