"""The modules of one model, with the weights of the runs before: what an edit stage trains and what is exported.

Between start.py, which reads those weights, and jobs/edit.py and runs/export.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..config import InstructXConfig
from ..denoiser import InstructXTransformer3DModel, build_denoiser
from ..encoder.context_encoder import ContextEncoder
from ..encoder.designs import build_encoder
from ..vae import build_vae
from .start import final_weights, load_into

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan


@dataclass(frozen=True, slots=True)
class Parts:
    """`root` names the tensors of all three. vae: None where all samples were encoded before (base.py)."""

    vae: AutoencoderKLWan | None
    encoder: ContextEncoder
    denoiser: InstructXTransformer3DModel
    root: nn.ModuleDict


def load_parts(requires: tuple[str, ...], config: InstructXConfig, output: Path, seed: int) -> Parts:
    """A model of this seed with the weights of all runs in `requires`, in that order, and LoRA layers, trained or new.

    Raises InputError when a required recipe has no final weights under `output`.
    """
    torch.manual_seed(seed)
    vae, encoder, denoiser = build_vae(config.vae), build_encoder(config), build_denoiser(config)
    root = nn.ModuleDict({"vae": vae, "encoder": encoder, "denoiser": denoiser})
    trained: set[str] = set()
    for required in requires:
        tensors = _of_design(encoder, final_weights(output, required))
        if any(".lora_" in name for name in tensors) and not any(".lora_" in name for name in trained):
            encoder.add_lora(config.lora)
        load_into(root, tensors)
        trained |= set(tensors)
    if not any(".lora_" in name for name in trained):
        encoder.add_lora(config.lora)
    _start_reference_embedder(denoiser, trained)
    vae.requires_grad_(False).eval()
    return Parts(vae, encoder, denoiser, root)


def _of_design(encoder: ContextEncoder, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the MLLM where the encoder has none, and with the text encoder of the DiT's captions where it has one."""
    found = tensors if encoder.mllm else {k: v for k, v in tensors.items() if not k.startswith("encoder.mllm.")}
    texts = {name: value for name, value in found.items() if name.startswith("text_encoder.")}
    found = {name: value for name, value in found.items() if name not in texts}
    return found | ({f"encoder.{name}": value for name, value in texts.items()} if encoder.text_encoder else {})


@torch.no_grad()
def _start_reference_embedder(denoiser: InstructXTransformer3DModel, trained: set[str]) -> None:
    """An own reference embedder starts as the DiT's patch embedding: the same function as a tied one.

    An own source embedder stays at zero. Started as a copy as well, it would be learnt as slowly as a tied one: the DiT
    couldn't tell the source from the noise that it is added to (docs/training.md has the comparison).
    """
    embedder = denoiser.reference_embedder
    if embedder is not None and "denoiser.reference_embedder.weight" not in trained:
        embedder.load_state_dict(denoiser.patch_embedding.state_dict())
