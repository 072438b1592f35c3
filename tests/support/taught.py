"""For the tests of `instructx train lora`: a model of a few ten thousand parameters as files, and folders of pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from nano import nano
from PIL import Image
from transformers import PreTrainedTokenizerFast

from instructx_core.denoiser import build_denoiser
from instructx_core.encoder.designs import build_encoder
from instructx_core.encoder.tokenizer import load_tokenizer
from instructx_core.pipeline import InstructXPipeline
from instructx_core.sampling.schedule import build_scheduler
from instructx_core.vae import build_vae
from instructx_core.weights import SHIPPED, save_checkpoint


def save_model(folder: Path) -> Path:
    """Random weights in ComfyUI's layout, with LoRA layers of the MLLM in the adapter."""
    config = nano()
    torch.manual_seed(0)
    encoder = build_encoder(config)
    encoder.add_lora(config.lora)
    with torch.no_grad():
        for name, value in encoder.named_parameters():
            if ".lora_B" in name:
                value.normal_(std=0.05)
    pipe = InstructXPipeline(
        vae=build_vae(config.vae),
        transformer=build_denoiser(config),
        encoder=encoder,
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=load_tokenizer(SHIPPED / "tokenizer.json")),
        scheduler=build_scheduler(config),
        instructx=config,
    )
    save_checkpoint(folder, pipe)
    return folder


def save_pairs(folder: Path, count: int, size: tuple[int, int] = (64, 64)) -> Path:
    """Noise before, its negative after."""
    folder.mkdir(parents=True)
    for number in range(count):
        before = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        for word, picture in (("before", before), ("after", 255 - before)):
            Image.fromarray(picture).save(folder / f"{number:02}_{word}.png")
    return folder
