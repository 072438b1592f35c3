"""Latents and vision features of a stage's data, encoded before the run: `instructx data cache`.

Beside run.py: the same plan, model and cache as the stage's job, without its DiT's weights and without a step. Several
processes (torchrun), several starts or the machines of a cluster (cluster.py) share the files that are missing; a run
then finds them.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from itertools import chain
from pathlib import Path

from ...config import InstructXConfig
from ...data.bucket import Bucket
from ...data.cache import edit_encoder, pool_mark
from ...data.source import EditSource
from .. import distributed
from ..base import remember_base
from ..cached import encoded_shards, note_mark
from ..edit_pools import plan_pools
from ..machine import CPU, Machine
from ..model import open_stage_model
from ..recipes.base import FROM_BASE
from ..recipes.edit import EditRecipe
from .cluster import write_on_ray


def fill_cache(
    recipe: EditRecipe, config: InstructXConfig, source: EditSource, output: Path, machine: Machine, on_ray: int = 0
) -> dict[str, dict[Bucket, int]]:
    """Samples of each split and bucket that lie in <output>/pools now.

    on_ray: the most workers of a Ray cluster that do it; 0: this process. Raises InputError as the stage itself would.
    """
    config = recipe.model_config(config)
    if FROM_BASE in recipe.requires:
        machine = dataclasses.replace(machine, base=remember_base(output, machine.base, config))
    plan, cache = plan_pools(recipe, source), machine.cache(output, source)
    shards = machine.base and encoded_shards(plan, cache, recipe, config, machine.base)
    if shards is None:
        opened = partial(open_stage_model, recipe, config, output.absolute())
        here = dataclasses.replace(machine, device=CPU) if on_ray else machine  # only to know them by their digest
        parts = opened(here).parts
        assert parts.vae is not None
        mark = pool_mark(parts.vae, parts.encoder)
        shards = plan.shards(cache, mark)
        tasks = list(chain(*shards.values()))
        if on_ray:
            write_on_ray(tasks, partial(opened, machine), cache, on_ray)
        else:
            cache.write(tasks, edit_encoder(parts.vae, parts.encoder))
        if machine.base and not distributed.rank():
            note_mark(cache, recipe, config, machine.base, mark)
    pools = plan.read(cache, shards)
    found = {"train": pools.train, "val": pools.validation}
    return {split: {bucket: len(pool) for bucket, pool in some.items()} for split, some in found.items()}
