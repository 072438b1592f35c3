"""Node Load Encoder: a Qwen2.5-VL (one file, or the shards of one) and an InstructX adapter -> INSTRUCTX_ENCODER.

First step of the graph. The adapter holds the learnable queries, the connector and the LoRA of Qwen, which is folded
into its weights here, and the DiT's own embedders, which travel on to Source and Reference.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from .parts import host
from .parts.schema import DTYPES, Encoder, schema, weight_inputs

if TYPE_CHECKING:
    import torch

FOLDER, ADAPTERS = "text_encoders", "model_patches"
TINY = "instructx_tiny.safetensors"
QWEN_VOCABULARY = 151665  # least size of a vocabulary that is Qwen2.5's
_SHARD = re.compile(r"-\d{5}-of-(\d{5})\.safetensors$")


class InstructXLoadEncoder(io.ComfyNode):
    """encoder file, adapter file, dtype, device -> INSTRUCTX_ENCODER."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        encoders, adapters = encoder_choices(), _safetensors(ADAPTERS)
        return schema(
            "InstructXLoadEncoder",
            "Load Encoder",
            "Loads Qwen2.5-VL with an InstructX adapter: the part that reads source and instruction.",
            search_aliases=["qwen", "mllm", "text encoder", "instruction"],
            inputs=[
                io.Combo.Input(
                    "encoder",
                    options=encoders,
                    default=TINY if TINY in encoders else None,
                    tooltip="Qwen2.5-VL with its vision tower, from models/text_encoders: one .safetensors file, the "
                    "folder of its shards, or a .gguf with its mmproj file in the same folder. The paper's model uses "
                    "Qwen2.5-VL-3B.",
                ),
                io.Combo.Input(
                    "adapter",
                    options=adapters,
                    default=TINY if TINY in adapters else None,
                    tooltip="InstructX adapter from models/model_patches: queries, connector and LoRA. It decides "
                    "which encoder and which DiT fit.",
                ),
                *weight_inputs(),
            ],
            outputs=[Encoder.Output("ENCODER", display_name="encoder", tooltip="For Query Embeddings (InstructX).")],
        )

    @classmethod
    def execute(cls, encoder: str, adapter: str, dtype: str = "auto", device: str = "auto") -> io.NodeOutput:
        from ..instructx_core.formats.layouts.adapter import load_adapter
        from .parts.encoder_model import load

        files = encoder_files(host.model_path(FOLDER, encoder))
        devices = host.encoder_devices(device)
        loaded = load_adapter(host.model_path(ADAPTERS, adapter), text_encoder=files)
        tokenizer = find_tokenizer(files, loaded.config.mllm.vocab_size)
        return io.NodeOutput(load(files, loaded, tokenizer, torch_dtype(dtype, devices[0]), devices))

    @classmethod
    def fingerprint_inputs(cls, encoder: str, adapter: str, **_: Any) -> list[tuple[str, int, int]]:
        """Changes when a file is replaced, so that the host loads it anew; an absent file is reported by execute."""
        try:
            files = [*encoder_files(host.model_path(FOLDER, encoder)), host.model_path(ADAPTERS, adapter)]
        except ValueError:
            return []
        return [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files]


def _safetensors(folder: str) -> list[str]:
    return [name for name in host.model_files(folder) if name.endswith(".safetensors")]


def encoder_choices() -> list[str]:
    """Names for the list: files as they are, the shards of one checkpoint as their folder, no vision tower alone."""
    from ..instructx_core.formats.layouts.llama_cpp import is_projector

    names = {str(Path(name).parent.as_posix()) if _SHARD.search(name) else name for name in _safetensors(FOLDER)}
    names |= {name for name in host.gguf_files(FOLDER) if not is_projector(name)}
    return sorted(names - {"."})


def encoder_files(path: Path) -> list[Path]:
    """The files of a choice: one, all shards, or a .gguf and the vision tower beside it.

    Raises InputError when a shard is missing, the folder holds none, or several files could be the vision tower.
    """
    from ..instructx_core.errors import InputError
    from ..instructx_core.formats.layouts.llama_cpp import find_projector

    if path.is_file():
        tower = find_projector(path) if path.suffix.lower() == ".gguf" else None
        return [path] if tower is None else [path, tower]
    files = sorted(path.glob("*.safetensors"))
    shards = [file for file in files if _SHARD.search(file.name)]
    if not shards:
        raise InputError(f"{path.name} holds no shards of a safetensors checkpoint; choose the file itself")
    match = _SHARD.search(shards[0].name)
    total = int(match.group(1)) if match else 0
    if len(shards) != total:
        raise InputError(f"{path.name} holds {len(shards)} of {total} shards; download the missing ones")
    return shards


def find_tokenizer(files: list[Path], vocabulary: int, checkpoint: Path | None = None) -> Path:
    """tokenizer.json beside the encoder, at the root of its models folder (the shipped layout), in the folder processor
    of a Kiwi-Edit checkpoint, or the host's own for Qwen's vocabulary.

    vocabulary: size of the encoder's. Raises InputError when there is none.
    """
    from ..instructx_core.errors import InputError

    folders = [files[0].parent, files[0].parent.parent, *([] if checkpoint is None else [checkpoint / "processor"])]
    for folder in folders:
        if (folder / "tokenizer.json").is_file():
            return folder / "tokenizer.json"
    own = host.qwen_tokenizer()
    if own is not None and vocabulary >= QWEN_VOCABULARY:
        return own
    raise InputError(
        f"no tokenizer.json for {files[0].name}; put the one of its checkpoint into the folder {files[0].parent.name}"
    )


def torch_dtype(choice: str, device: torch.device) -> torch.dtype:
    """The dtype of the weights for a choice of the list. Raises InputError for another one: 0.3.75 does not check."""
    import torch

    from ..instructx_core.errors import InputError

    if choice not in DTYPES:
        raise InputError(f"dtype is {choice!r}; use {', '.join(DTYPES)}")
    if choice == "auto":
        choice = "bf16" if device.type != "cpu" and host.prefers_bf16(device) else "fp32"
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[choice]
