"""Trained runs -> a checkpoint folder (weights.py): `instructx train export --output runs --to FOLDER`."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import torch

from ...config import preset
from ...encoder.tokenizer import load_tokenizer
from ...pipeline import InstructXPipeline
from ...sampling.schedule import build_scheduler
from ...weights import save_checkpoint
from ..base import trained_on_base
from ..parts import load_parts
from ..recipes.base import FROM_BASE, Recipe
from ..start import run_recipe, started_from
from ..tokenizer import run_tokenizer
from .run import recipe_source

logger = logging.getLogger("instructx")


def trained_pipeline(output: Path, last: Recipe) -> InstructXPipeline:
    """The pipeline with the final weights of the run `last` and of everything that it started from."""
    from transformers import PreTrainedTokenizerFast

    config = last.model_config(preset(last.preset))
    requires = (*started_from(output, last.name), last.name)
    if FROM_BASE in requires:
        parts = trained_on_base(dataclasses.replace(last, requires=requires), config, output)
        tokenizer = load_tokenizer(output / "tokenizer.json")
    else:
        parts = load_parts(requires, config, output, last.seed)
        used = dataclasses.replace(last, data=run_recipe(output, last.name).get("data", last.data))  # by --data
        tokenizer = run_tokenizer(output, config, recipe_source(used))
    return InstructXPipeline(
        vae=parts.vae,
        transformer=parts.denoiser,
        encoder=parts.encoder,
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer),
        scheduler=build_scheduler(config),
        instructx=config,
    )


def export_run(output: Path, target: Path, last: Recipe) -> None:
    """bf16 files of the newest stage."""
    save_checkpoint(target, trained_pipeline(output, last), dtype=torch.bfloat16)
    logger.info("wrote %s", target)
