"""Node Load Encoder: a Qwen2.5-VL (one file, or the shards of one) and an InstructX adapter -> INSTRUCTX_ENCODER.

First step of the graph. The adapter holds the learnable queries, the connector and the LoRA of Qwen, which is folded
into its weights here, and the DiT's own embedders, which travel on to Source and Reference.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io

from .parts import host
from .parts.model_files import (
    ADAPTERS,
    ENCODERS,
    TINY,
    FileDate,
    encoder_choices,
    encoder_files,
    file_dates,
    find_tokenizer,
    safetensors,
    torch_dtype,
)
from .parts.schema import Encoder, schema, weight_inputs


class InstructXLoadEncoder(io.ComfyNode):
    """encoder file, adapter file, dtype, device -> INSTRUCTX_ENCODER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "InstructXLoadEncoder",
            "Load Encoder",
            "Loads Qwen2.5-VL with an InstructX adapter: the part that reads source and instruction.",
            search_aliases=["qwen", "mllm", "text encoder", "instruction"],
            inputs=[
                io.Combo.Input(
                    "encoder",
                    options=encoder_choices(),
                    default=TINY,
                    tooltip="Qwen2.5-VL with its vision tower, from models/text_encoders: one .safetensors file, the "
                    "folder of its shards, or a .gguf with its mmproj file in the same folder. The paper's model uses "
                    "Qwen2.5-VL-3B.",
                ),
                io.Combo.Input(
                    "adapter",
                    options=safetensors(ADAPTERS),
                    default=TINY,
                    tooltip="InstructX adapter from models/model_patches: queries, connector and LoRA. It decides "
                    "which encoder and which DiT fit.",
                ),
                *weight_inputs(),
            ],
            outputs=[Encoder.Output("ENCODER", display_name="encoder", tooltip="For Query Embeddings (InstructX).")],
        )

    @classmethod
    def execute(cls, encoder: str, adapter: str, dtype: str = "auto", device: str = "auto") -> io.NodeOutput:
        from .parts.encoder_model import load_files

        files = encoder_files(host.model_path(ENCODERS, encoder))
        devices = host.encoder_devices(device)
        path, number = host.model_path(ADAPTERS, adapter), torch_dtype(dtype, devices[0])
        return io.NodeOutput(load_files(path, files, partial(find_tokenizer, files), number, devices)[0])

    @classmethod
    def fingerprint_inputs(cls, encoder: str, adapter: str, **_: Any) -> list[FileDate]:
        """Changes when a file is replaced, so that the host loads it anew; an absent file is reported by execute."""
        try:
            files = [*encoder_files(host.model_path(ENCODERS, encoder)), host.model_path(ADAPTERS, adapter)]
        except ValueError:
            return []
        return file_dates(files)
