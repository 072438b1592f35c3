"""One recipe from start to final weights: builds the job, loads what the recipe requires, trains, exports.

Folder layout: <output>/<recipe>/{step-*/, metrics.jsonl, loss.png, sample-*.png, final.safetensors}; pools of encoded
samples in <output>/pools/. `final.safetensors` holds exactly the tensors that the recipe trained.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..config import InstructXConfig, preset
from ..errors import InputError
from .recipes import SHIPPED, Recipe
from .trainer import Trainer


def final_weights(output: Path, recipe_name: str) -> dict[str, Tensor]:
    """What `recipe_name` trained, or for SHIPPED every tensor of the shipped model, LoRA apart.

    Raises InputError when that recipe has not been trained to its end under `output`.
    """
    if recipe_name == SHIPPED:
        return shipped_weights()
    path = output / recipe_name / "final.safetensors"
    if not path.is_file():
        raise InputError(f"{path} is missing; run `instructx train {recipe_name} --output {output}` first")
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}
    except SafetensorError as error:
        raise InputError(f"{path} cannot be read ({error}); train {recipe_name} again") from error


def started_from(output: Path, recipe_name: str) -> tuple[str, ...]:
    """What a run required: its recipe's, or SHIPPED. Raises InputError when there is no such run."""
    path = output / recipe_name / "recipe.json"
    if not path.is_file():
        raise InputError(f"{path} is missing; run `instructx train {recipe_name} --output {output}` first")
    return tuple(json.loads(path.read_text())["requires"])


def shipped_weights() -> dict[str, Tensor]:
    """The model in this package under the names of ModuleDict(vae=, encoder=, denoiser=), fp32."""
    from ..weights import load_pipeline

    pipeline = load_pipeline(dtype=torch.float32, merge_lora=False)
    parts = {"vae": pipeline.vae, "encoder": pipeline.encoder, "denoiser": pipeline.transformer}
    return {name: p.detach() for name, p in nn.ModuleDict(parts).named_parameters()}


def load_into(root: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copies by name. Raises InputError for names or shapes that `root` doesn't have."""
    own = dict(root.named_parameters())
    unknown = sorted(set(tensors) - set(own))
    if unknown:
        raise InputError(f"{len(unknown)} tensors fit nothing in the model, e.g. {unknown[0]}; other preset?")
    with torch.no_grad():
        for name, value in tensors.items():
            if own[name].shape != value.shape:
                raise InputError(f"{name}: file has {tuple(value.shape)}, model {tuple(own[name].shape)}")
            own[name].copy_(value)


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
