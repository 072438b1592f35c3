"""Latents and vision features of a stage's data, encoded before the run: `instructx data cache`.

Beside run.py: the same plan, model and cache as the stage's job, without its DiT's weights and without a step. Several
processes (torchrun) or several starts share the files that are missing; a run then finds them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ...config import InstructXConfig
from ...data.bucket import Bucket
from ...data.source import EditSource
from ..base import remember_base
from ..edit_pools import plan_pools
from ..machine import Machine
from ..model import open_stage_model
from ..recipes.base import FROM_BASE
from ..recipes.edit import EditRecipe


def fill_cache(
    recipe: EditRecipe, config: InstructXConfig, source: EditSource, output: Path, machine: Machine
) -> dict[str, dict[Bucket, int]]:
    """Samples of each split and bucket that lie in <output>/pools now. Raises InputError as the stage itself would."""
    config = recipe.model_config(config)
    if FROM_BASE in recipe.requires:
        machine = dataclasses.replace(machine, base=remember_base(output, machine.base, config))
    plan = plan_pools(recipe, source)
    parts = open_stage_model(recipe, config, output, machine).parts
    pools = plan.fill(machine.cache(output, source), parts.vae, parts.encoder)
    found = {"train": pools.train, "val": pools.validation}
    return {split: {bucket: len(pool) for bucket, pool in some.items()} for split, some in found.items()}
