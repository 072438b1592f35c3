"""merged: a LoRA folded in, of the DiT into a DiT, of an adapter into Qwen2.5-VL."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ...errors import InputError, some
from ..layouts.adapter import read_adapter
from ..layouts.checkpoints import open_model
from ..layouts.dit_lora import DitLora
from ..layouts.keymaps import dit_to_diffusers, dit_to_original
from ..layouts.mllm_lora import lora_layers
from ..layouts.qwen_config import check_encoder
from ..layouts.qwen_names import mllm_from_original
from .pending import kept_metadata, pending_dit, pending_plain, write
from .request import Request


def to_merged(request: Request) -> tuple[str, ...]:
    options = request.options
    assert options.lora is not None
    if request.kind == "qwen2.5-vl":
        return _merge_mllm(request, options.lora)
    dit = request.dit("merged")
    shapes = {dit_to_diffusers(item.name): item.shape for item in pending_dit(dit)}
    lora = DitLora(request.opened.open(options.lora), shapes, options.layers)
    changed = {dit_to_original(name): name for name in lora.names}

    def change(name: str, tensor: Tensor) -> Tensor:
        if name not in changed:
            return tensor
        return tensor.float().add_(lora.change(changed[name]), alpha=options.strength)

    write(request.target, pending_dit(dit, change=change), kept_metadata(dit))
    return _notes(options.lora, len(changed), lora.ignored, lora.left_out)


def _merge_mllm(request: Request, path: Path) -> tuple[str, ...]:
    """The LoRA of an adapter into Qwen2.5-VL; load the result with an adapter that has none (--without-lora)."""
    if (request.options.strength, request.options.layers) != (1.0, "all"):
        raise InputError("--strength and --layers belong to a LoRA of the DiT; the adapter's LoRA is merged as trained")
    qwen = request.file
    adapter = read_adapter(open_model(request.opened, path, text_encoder=request.source))
    layers = lora_layers(adapter.tensors, adapter.config)
    check_encoder(qwen, adapter.config)
    names = {key: mllm_from_original(key) for key in qwen.source.keys()}
    lost = set(layers) - set(names.values())
    if lost or not layers:
        raise InputError(
            f"{path.name} has {len(layers)} LoRA layers, {len(lost)} of them not in {request.source.name} "
            f"({some(lost) or 'none'}); use the files of one model"
        )

    def change(key: str, tensor: Tensor) -> Tensor:
        layer = layers.get(names[key] or "")
        return tensor if layer is None else layer.merged_into(tensor)

    kept = {key: key for key, name in names.items() if name is not None}
    write(request.target, pending_plain(qwen, kept, change=change), kept_metadata(qwen))
    return _notes(path, len(layers), (), ())


def _notes(lora: Path, matched: int, ignored: tuple[str, ...], left_out: tuple[str, ...]) -> tuple[str, ...]:
    notes = [f"{lora.name}: {matched} weights changed"]
    notes += [f"{len(ignored)} tensors match no layer ({some(ignored)})"] if ignored else []
    notes += [f"{len(left_out)} tensors of other layers left out"] if left_out else []
    return tuple(notes)
