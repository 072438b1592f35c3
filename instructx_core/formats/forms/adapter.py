"""adapter: what InstructX adds, out of a Kiwi file or folder, or an adapter of ours without its LoRA."""

from __future__ import annotations

from ..containers.tensor_source import TORCH_DTYPES
from ..containers.writing import Pending
from ..layouts.adapter import read_adapter
from ..layouts.checkpoints import is_checkpoint, open_model
from ..layouts.weight_file import config_metadata
from .pending import write
from .request import Request

DTYPE_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}


def to_adapter(request: Request) -> tuple[str, ...]:
    """without_lora leaves out what was merged into Qwen."""
    if not is_checkpoint(request.kind):
        raise request.refused("adapter", "a Kiwi-Edit training file or folder, or an adapter with --without-lora")
    options = request.options
    adapter = read_adapter(open_model(request.opened, request.source, text_encoder=options.encoder, vae=options.vae))
    of_lora = [key for key in adapter.tensors if ".lora_" in key or key.endswith(".alpha")]
    lora = set(of_lora if options.without_lora else ())
    pending = [
        Pending(key, DTYPE_NAMES[value.dtype], tuple(value.shape), lambda value=value: value)
        for key, value in adapter.tensors.items()
        if key not in lora
    ]
    write(request.target, pending, config_metadata(adapter.config))
    return (*adapter.report.notes, *((f"{len(lora)} tensors of the LoRA left out",) if lora else ()))
