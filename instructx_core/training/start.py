"""What a run starts from: the final weights of the recipes before it, or the shipped model.

Between runs/run.py, which leaves `final.safetensors` behind, and the jobs, which copy it into the modules they train.
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
from .recipes.base import FROM_SHIPPED, Recipe
from .recipes.registry import command_of


def final_weights(output: Path, recipe_name: str) -> dict[str, Tensor]:
    """What `recipe_name` trained, or for FROM_SHIPPED every tensor of the shipped model, LoRA apart.

    Raises InputError when that recipe has not been trained to its end under `output`.
    """
    if recipe_name == FROM_SHIPPED:
        return shipped_weights()
    path = output / recipe_name / "final.safetensors"
    if not path.is_file():
        raise InputError(f"{path} is missing; run `{command_of(recipe_name)} --output {output}` first")
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}
    except SafetensorError as error:
        raise InputError(f"{path} cannot be read ({error}); train {recipe_name} again") from error


def run_recipe(output: Path, recipe_name: str) -> dict[str, Any]:
    """The recipe that a run was started with, as JSON. Raises InputError when there is no such run."""
    path = output / recipe_name / "recipe.json"
    if not path.is_file():
        raise InputError(f"{path} is missing; run `{command_of(recipe_name)} --output {output}` first")
    return json.loads(path.read_text())


def started_from(output: Path, recipe_name: str) -> tuple[str, ...]:
    """What a run required: its recipe's, FROM_SHIPPED or FROM_BASE. Raises InputError when there is no such run."""
    return tuple(run_recipe(output, recipe_name)["requires"])


def trains_shipped(recipe: Recipe) -> bool:
    """Whether the recipe trains the whole model in this package: its parts have the same config."""
    from ..formats.layouts.files import find_files
    from ..formats.layouts.folders import SHIPPED
    from ..formats.layouts.weight_file import open_weights

    with open_weights(find_files(SHIPPED).adapter) as file:
        shipped = file.config
    return bool(recipe.trained_groups()) and shipped is not None and _parts(shipped) == _parts(preset(recipe.preset))


def _parts(config: InstructXConfig) -> tuple[Any, ...]:
    """Whatever decides which tensors there are, and of which shapes."""
    return config.mllm, config.lora, config.instruction, config.denoiser, config.vae


def shipped_weights() -> dict[str, Tensor]:
    """The model in this package under the names of ModuleDict(vae=, encoder=, denoiser=), fp32."""
    from ..weights import load_pipeline

    pipeline = load_pipeline(dtype=torch.float32, merge_lora=False)
    parts = {"vae": pipeline.vae, "encoder": pipeline.encoder, "denoiser": pipeline.transformer}
    return {name: p.detach() for name, p in nn.ModuleDict(parts).named_parameters()}


def load_into(root: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copies by name. Raises InputError for names or shapes that `root` doesn't have."""
    parameters = dict(root.named_parameters())
    unknown = sorted(set(tensors) - set(parameters))
    if unknown:
        raise InputError(f"{len(unknown)} tensors fit nothing in the model, e.g. {unknown[0]}; other preset?")
    with torch.no_grad():
        for name, value in tensors.items():
            if parameters[name].shape != value.shape:
                raise InputError(f"{name}: file has {tuple(value.shape)}, model {tuple(parameters[name].shape)}")
            parameters[name].copy_(value)
