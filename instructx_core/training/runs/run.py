"""One recipe from start to final weights: opens its data, builds the job, loads what it requires, trains, exports.

Folder layout: <output>/<recipe>/{step-*/, metrics.jsonl, loss.png, sample-*.png, final.safetensors}; the cache of
latents in <output>/pools/. `final.safetensors` holds exactly the tensors that the recipe trained.
"""

from __future__ import annotations

from pathlib import Path

from ...config import InstructXConfig, preset
from ...data.source import EditSource
from ...data.sources import SOURCES, open_data
from ...errors import InputError
from .. import distributed
from ..engine import check_batches
from ..job import TrainingJob
from ..jobs.edit import EditJob
from ..jobs.mllm import MllmJob
from ..jobs.text_to_video import TextToVideoJob
from ..jobs.vae import VaeJob
from ..machine import Machine
from ..recipes.base import Recipe
from ..recipes.edit import EditRecipe
from ..recipes.mllm import MllmRecipe
from ..recipes.text_to_video import TextToVideoRecipe
from ..recipes.vae import VaeRecipe
from ..recipes.variant import VariantRecipe
from ..trainer import Trainer

JOBS: dict[type[Recipe], type[TrainingJob]] = {
    VaeRecipe: VaeJob,
    MllmRecipe: MllmJob,
    TextToVideoRecipe: TextToVideoJob,
    EditRecipe: EditJob,
    VariantRecipe: EditJob,
}


def recipe_source(recipe: Recipe) -> EditSource:
    """Raises InputError for a recipe without data: nothing is built for it."""
    if recipe.data is None:
        raise InputError(
            f"{recipe.name} has no data source; give --data NAME, NAME:PATH or the path of a mixture (docs/data.md). "
            f"Known: {', '.join(SOURCES)}"
        )
    return open_data(recipe.data)


def build_job(
    recipe: Recipe,
    config: InstructXConfig,
    output: Path,
    machine: Machine | None = None,
    source: EditSource | None = None,
) -> TrainingJob:
    """The job of this kind of recipe. source: the recipe's data, where it is open already.

    Raises InputError when its data source lacks what the job needs.
    """
    source, job = source or recipe_source(recipe), JOBS[type(recipe)]
    if not isinstance(source, job.needs):
        raise InputError(f"{recipe.name} needs scenes and pictures; {source.name} has edit pairs only")
    return job(recipe, config, source, output, machine or Machine())


def train(
    recipe: Recipe,
    output: Path,
    stop_at: int | None = None,
    machine: Machine | None = None,
    source: EditSource | None = None,
) -> Path | None:
    """Starts or resumes `recipe` under `output`; returns final.safetensors, None when stopped before the end."""
    machine = machine or Machine()
    if machine.engine.sharded:
        _, world = distributed.setup()
        check_batches(recipe, world)
    job = build_job(recipe, preset(recipe.preset), output, machine, source)
    return Trainer(recipe, job, output / recipe.name, machine.engine, machine.watch).run(stop_at)
