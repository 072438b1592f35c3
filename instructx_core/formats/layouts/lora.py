"""A LoRA file of the Wan DiT into a model: merged into the weights, or kept beside them.

dit_lora.py says what it adds. Here between an opened file and an InstructXTransformer3DModel; strength scales it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from ...errors import InputError, some
from .dit_lora import DitLora
from .report import LoadReport
from .weight_file import WeightFile

if TYPE_CHECKING:
    from ...denoiser import InstructXTransformer3DModel


def apply_lora(
    transformer: InstructXTransformer3DModel,
    file: WeightFile,
    strength: float = 1.0,
    layers: str = "all",
    merge: bool = True,
    name: str | None = None,
) -> LoadReport:
    """Add a LoRA to a DiT. merge: into the weights, one at a time, in fp32, rounded once; otherwise beside them (PEFT).

    name: of the PEFT adapter. Nothing is changed when it raises InputError, for a strength that is not finite and as
    DitLora does.
    """
    if not math.isfinite(strength):
        raise InputError(f"strength {strength} is no number; use 1, or less for a weaker effect")
    targets = {
        key.replace(".base_layer.", "."): value for key, value in transformer.named_parameters() if ".lora_" not in key
    }
    lora = DitLora(file, {key: tuple(value.shape) for key, value in targets.items()}, layers)
    if merge:
        _merge(targets, lora, strength)
    else:
        _attach(transformer, lora, strength, name or file.path.stem.replace(".", "_"))
    how = "merged" if merge else "beside the weights"
    rank = f"LoRA of rank {', '.join(map(str, lora.ranks))}" if lora.ranks else "differences"
    notes = (f"{len(lora.left_out)} tensors of other layers than self-attention and FFN left out",)
    return LoadReport(
        files=file.files,
        kind=f"{rank} on {len(lora.names)} weights of the DiT, strength {strength:g}, {how}",
        consumed=lora.consumed,
        ignored=lora.ignored,
        notes=notes if lora.left_out else (),
    )


@torch.no_grad()
def _merge(targets: Mapping[str, nn.Parameter], lora: DitLora, strength: float) -> None:
    plain = (torch.float32, torch.float16, torch.bfloat16)
    wrong = [name for name in lora.names if targets[name].is_meta or targets[name].dtype not in plain]
    if wrong:
        raise InputError(f"{some(wrong)} is offloaded or quantised; merge the LoRA before that, or use merge=False")
    for name in lora.names:  # a first pass that changes nothing: a broken LoRA must not leave half of itself behind
        lora.change(name)
    for name in lora.names:
        weight = targets[name]
        weight.copy_(weight.float().add_(lora.change(name, weight.device), alpha=strength))


def _attach(transformer: InstructXTransformer3DModel, lora: DitLora, strength: float, name: str) -> None:
    single = lora.only_differences()
    if single:
        raise InputError(
            f"{lora.source.path.name} changes {len(single)} weights directly ({some(single)}), which cannot stand "
            "beside them; merge it"
        )
    state = {}
    for weight in lora.names:
        stem = weight.removesuffix(".weight")
        state[f"{stem}.lora_B.weight"], state[f"{stem}.lora_A.weight"] = lora.halves(weight)
    here = getattr(transformer, "peft_config", {})
    strengths = {key: value for key, value in getattr(transformer, "_lora_strengths", {}).items() if key in here}
    if name in here:
        raise InputError(f"a LoRA called {name} is there already; give another name, or unload it first")
    transformer.load_lora_adapter(state, prefix=None, adapter_name=name)
    strengths[name] = strength
    transformer._lora_strengths = strengths
    transformer.set_adapters(list(strengths), list(strengths.values()))
