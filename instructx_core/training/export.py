"""Trained runs -> a checkpoint folder (weights.py): `instructx train export --output runs --to FOLDER`."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import torch

from ..config import preset
from ..pipeline import InstructXPipeline
from ..sampling.schedule import build_scheduler
from ..weights import save_checkpoint
from .recipes import Recipe
from .start import started_from
from .world_text import world_tokenizer

logger = logging.getLogger("instructx")


def trained_pipeline(output: Path, last: Recipe) -> InstructXPipeline:
    """The pipeline with the final weights of the run `last` and of everything that it started from."""
    from transformers import PreTrainedTokenizerFast

    from .job_edit import edit_config, load_parts

    recipe = dataclasses.replace(last, requires=(*started_from(output, last.name), last.name))
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


def export(output: Path, target: Path, last: Recipe) -> None:
    """bf16 files of the newest stage."""
    save_checkpoint(target, trained_pipeline(output, last), dtype=torch.bfloat16)
    logger.info("wrote %s", target)
