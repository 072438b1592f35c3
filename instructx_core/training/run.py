"""One recipe from start to final weights: opens its data, builds the job, loads what it requires, trains, exports.

Folder layout: <output>/<recipe>/{step-*/, metrics.jsonl, loss.png, sample-*.png, final.safetensors}; the cache of
latents in <output>/pools/. `final.safetensors` holds exactly the tensors that the recipe trained.
"""

from __future__ import annotations

import json
from pathlib import Path

from ..config import InstructXConfig, preset
from ..data.source import EditSource, PretrainingSource
from ..data.sources import SOURCES, open_source
from ..errors import InputError
from .jobs.job import Job
from .recipes.base import Recipe
from .recipes.edit import EditRecipe
from .recipes.mllm import MllmRecipe
from .recipes.text_to_video import TextToVideoRecipe
from .recipes.vae import VaeRecipe
from .trainer import Trainer


def recipe_source(recipe: Recipe) -> EditSource:
    """Raises InputError for a recipe without data: nothing is built for it."""
    if recipe.data is None:
        raise InputError(
            f"{recipe.name} has no data source: readers of public data sets are not written yet (docs/training.md). "
            f"Recipes whose name starts with tiny_ read one of {', '.join(SOURCES)}"
        )
    return open_source(recipe.data)


def build_job(recipe: Recipe, config: InstructXConfig, output: Path) -> Job:
    """The job of this kind of recipe. Raises InputError when its data source lacks what the job needs."""
    source = recipe_source(recipe)
    if isinstance(recipe, EditRecipe):
        from .jobs.edit import EditJob

        return EditJob(recipe, config, source, output)
    if not isinstance(source, PretrainingSource):
        raise InputError(f"{recipe.name} needs scenes and pictures; {source.name} has edit pairs only")
    if isinstance(recipe, VaeRecipe):
        from .jobs.vae import VaeJob

        return VaeJob(recipe, config, source, output)
    if isinstance(recipe, MllmRecipe):
        from .jobs.mllm import MllmJob

        return MllmJob(recipe, config, source, output)
    if isinstance(recipe, TextToVideoRecipe):
        from .jobs.text_to_video import TextToVideoJob

        return TextToVideoJob(recipe, config, source, output)
    raise TypeError(f"no job for a {type(recipe).__name__}")


def train(recipe: Recipe, output: Path, stop_at: int | None = None) -> Path | None:
    """Starts or resumes `recipe` under `output`; returns final.safetensors, None when stopped before the end."""
    job = build_job(recipe, preset(recipe.preset), output)
    trainer = Trainer(recipe, job, output / recipe.name)
    (output / recipe.name).mkdir(parents=True, exist_ok=True)
    (output / recipe.name / "recipe.json").write_text(json.dumps(recipe.as_json(), indent=1))
    return trainer.run(stop_at)
