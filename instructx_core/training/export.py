"""Trained runs -> a checkpoint folder (weights.py): `instructx train export --output runs --to FOLDER`."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import torch

from ..config import preset
from ..pipeline import InstructXPipeline
from ..schedule import build_scheduler
from ..weights import save_checkpoint
from .run import started_from
from .tiny_recipes import RECIPES
from .world_text import world_tokenizer

logger = logging.getLogger("instructx")


def trained_pipeline(output: Path, last: str) -> InstructXPipeline:
    """The pipeline with the final weights of `last` and of everything it requires."""
    from transformers import PreTrainedTokenizerFast

    from .job_edit import edit_config, load_parts

    recipe = RECIPES[last]()
    recipe = dataclasses.replace(recipe, requires=(*started_from(output, last), last))
    config = edit_config(recipe, preset(recipe.preset))
    parts = load_parts(recipe, config, output)
    return InstructXPipeline(
        vae=parts.vae,
        transformer=parts.denoiser,
        encoder=parts.encoder,
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=world_tokenizer(output, config)),
        scheduler=build_scheduler(config),
        instructx=config,
    )


def export(output: Path, target: Path, last: str) -> None:
    """bf16 files of the newest stage."""
    save_checkpoint(target, trained_pipeline(output, last), dtype=torch.bfloat16)
    logger.info("wrote %s", target)
