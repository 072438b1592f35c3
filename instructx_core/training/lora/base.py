"""The model that is taught: its files, opened part by part, so that no part waits on the card for another.

Between the command line and jobs/lora.py: VAE and encoder first, which encode the pairs and leave; then the DiT, frozen
in the number format of its file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer
from torch import Tensor

from ...config import InstructXConfig
from ...denoiser import InstructXTransformer3DModel
from ...digests import model_files_digest
from ...encoder.context_encoder import ContextEncoder
from ...encoder.tokenizer import load_tokenizer
from ...errors import InputError
from ...formats.layouts.adapter import load_adapter
from ...formats.layouts.checkpoints import open_dit
from ...formats.layouts.files import CheckpointFiles, find_files
from ...formats.layouts.folders import SHIPPED
from ...formats.layouts.weight_file import OpenFiles
from ...formats.loading import load_denoiser, load_encoder, load_vae

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan


@dataclass(frozen=True, slots=True)
class TaughtModel:
    """adapter: tensors of the adapter. numbers: what the DiT is stored in. digest: of all its files."""

    files: CheckpointFiles
    config: InstructXConfig
    adapter: Mapping[str, Tensor]
    numbers: str
    dit_bytes: int
    digest: str

    def encoders(self, dtype: torch.dtype, device: torch.device) -> tuple[AutoencoderKLWan, ContextEncoder, Tokenizer]:
        """VAE, encoder with its own LoRA folded in, and tokenizer."""
        tokenizer = load_tokenizer(self.files.tokenizer)
        vae = load_vae(self.files.vae, self.config, dtype, device)
        encoder = load_encoder(self.files.text_encoder, self.config, self.adapter, dtype, device)
        for module in (vae, encoder):
            module.requires_grad_(False)
        return vae, encoder, tokenizer

    def denoiser(self, dtype: torch.dtype, device: torch.device) -> InstructXTransformer3DModel:
        """Frozen; quantised layers stay packed, all others are in `dtype`."""
        dit = load_denoiser(self.files.denoiser, self.config, self.adapter, dtype, device, packed=True)
        return dit.requires_grad_(False)


def open_taught(model: Path | None, parts: dict[str, Path]) -> TaughtModel:
    """model: a folder of models, a Kiwi-Edit folder or file, None: the shipped. parts: what lies elsewhere, by name.
    Heads and the adapter are read.

    Raises InputError for files that are missing or do not fit, and for a DiT that is a LoRA beside another one.
    """
    files = find_files(SHIPPED if model is None and not parts else model, **parts)
    adapter = load_adapter(files.adapter, text_encoder=files.text_encoder, denoiser=files.denoiser, vae=files.vae)
    with OpenFiles() as opened:
        dit = open_dit(opened, files.denoiser)
        if any(".lora_" in key for key in dit.source.keys()):
            raise InputError(
                f"{files.denoiser} is a LoRA of a DiT; write it into its base first: instructx convert --to merged"
            )
        numbers, dit_bytes = str(dit.numbers), sum(path.stat().st_size for path in dit.files)
    paths = [files.denoiser, files.vae, files.text_encoder, files.adapter]
    return TaughtModel(files, adapter.config, adapter.tensors, numbers, dit_bytes, model_files_digest(paths)[:16])
