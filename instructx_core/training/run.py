"""One recipe from start to final weights: builds the job, loads what the recipe requires, trains, exports.

Folder layout: <output>/<recipe>/{step-*/, metrics.jsonl, loss.png, sample-*.png, final.safetensors}; pools of encoded
samples in <output>/pools/. `final.safetensors` holds exactly the tensors that the recipe trained.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..config import InstructXConfig, preset
from .recipes import Recipe
from .trainer import Trainer


def build_job(recipe: Recipe, config: InstructXConfig, output: Path) -> Any:
    if recipe.job == "vae":
        from .job_vae import VaeJob

        return VaeJob(recipe, config, output)
    if recipe.job == "mllm":
        from .job_mllm import MllmJob

        return MllmJob(recipe, config, output)
    if recipe.job == "text_to_video":
        from .job_text import TextToVideoJob

        return TextToVideoJob(recipe, config, output)
    from .job_edit import EditJob

    return EditJob(recipe, config, output)


def train(recipe: Recipe, output: Path, stop_at: int | None = None) -> Path | None:
    """Starts or resumes `recipe` under `output`; returns final.safetensors, None when stopped before the end."""
    job = build_job(recipe, preset(recipe.preset), output)
    trainer = Trainer(recipe, job, output / recipe.name)
    (output / recipe.name).mkdir(parents=True, exist_ok=True)
    (output / recipe.name / "recipe.json").write_text(json.dumps(recipe.as_json(), indent=1))
    return trainer.run(stop_at)
