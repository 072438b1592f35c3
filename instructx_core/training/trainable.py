"""Which tensors a stage trains: group name -> tensors, by module (paper 3.3, Fig. 5).

Everything that is in no group of the recipe is frozen. The MLLM's own weights, the VAE and the DiT's text_embedding
(bypassed: it takes no part in an edit) are in no group at all.
"""

from __future__ import annotations

from torch import nn

from ..config import EMBEDDERS
from ..denoiser import InstructXTransformer3DModel
from ..encoder.context_encoder import ContextEncoder
from ..errors import InputError


def _named(module: nn.Module | None, prefix: str) -> dict[str, nn.Parameter]:
    return {} if module is None else {f"{prefix}.{name}": p for name, p in module.named_parameters()}


def groups(encoder: ContextEncoder, denoiser: InstructXTransformer3DModel) -> dict[str, dict[str, nn.Parameter]]:
    """All groups. Names are those of ModuleDict(encoder=..., denoiser=...).

    Wan's text embedding is a part of the DiT where text goes through it, and of no group elsewhere.
    """
    found = {f"queries.{name}": {f"encoder.queries.{name}": p} for name, p in encoder.queries.items()}
    found["text_encoder"] = _named(encoder.text_encoder, "encoder.text_encoder")
    found["lora"] = {n: p for n, p in _named(encoder.mllm, "encoder.mllm").items() if ".lora_" in n}
    found["connector"] = _named(encoder.connector, "encoder.connector") | _named(
        encoder.reference_connector, "encoder.reference_connector"
    )
    for name in EMBEDDERS:
        found[name] = _named(getattr(denoiser, name), f"denoiser.{name}")
    unused = () if denoiser.config.context == "text" else ("denoiser.condition_embedder.text_embedder.",)
    apart = (*(f"denoiser.{name}." for name in EMBEDDERS), *unused)
    found["denoiser"] = {n: p for n, p in _named(denoiser, "denoiser").items() if not n.startswith(apart)}
    return found


def select(
    names: tuple[str, ...], encoder: ContextEncoder, denoiser: InstructXTransformer3DModel
) -> dict[str, nn.Parameter]:
    """The tensors of these groups; freezes all others. Raises InputError for a group that doesn't exist."""
    found = groups(encoder, denoiser)
    unknown = [name for name in names if name not in found]
    if unknown:
        raise InputError(f"unknown group(s) {', '.join(unknown)}; known: {', '.join(sorted(found))}")
    encoder.requires_grad_(False)
    denoiser.requires_grad_(False)
    chosen = {key: parameter for name in names for key, parameter in found[name].items()}
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    return chosen


def parameter_table(encoder: ContextEncoder, denoiser: InstructXTransformer3DModel, names: tuple[str, ...]) -> str:
    """One line a group that the model has: parameters, trained or frozen."""
    lines = []
    for name, tensors in groups(encoder, denoiser).items():
        if count := sum(p.numel() for p in tensors.values()):
            lines.append(f"{name:20} {count:>14,}  {'trained' if name in names else 'frozen'}")
    return "\n".join(lines)
