"""RECIPES: every recipe by its name, for `instructx train NAME`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from ...config import preset
from ...errors import InputError
from .base import Recipe
from .edit import EditRecipe
from .paper import stage1, stage2, stage3
from .tiny import (
    tiny_dit,
    tiny_mllm,
    tiny_stage1,
    tiny_stage2,
    tiny_stage3,
    tiny_vae,
)

RECIPES: dict[str, Callable[[], Recipe]] = {
    "stage1": stage1,
    "stage2": stage2,
    "stage3": stage3,
    "tiny_vae": tiny_vae,
    "tiny_mllm": tiny_mllm,
    "tiny_dit": tiny_dit,
    "tiny_stage1": tiny_stage1,
    "tiny_stage2": tiny_stage2,
    "tiny_stage3": tiny_stage3,
}


def find_recipe(name: str) -> Recipe:
    """Raises InputError for an unknown name; docs/training.md has the runs of the shipped model that are none."""
    if name not in RECIPES:
        raise InputError(
            f"no recipe {name!r}; known: {', '.join(RECIPES)}. Names and settings of all runs that made the shipped "
            'model are in docs/training.md, "How the shipped model was made"'
        )
    return RECIPES[name]()


def find_stage(name: str, option: str) -> EditRecipe:
    """For an option that is about edits alone. Raises InputError for another kind of recipe."""
    recipe = find_recipe(name)
    if not isinstance(recipe, EditRecipe):
        stages = ", ".join(each for each, make in RECIPES.items() if isinstance(make(), EditRecipe))
        raise InputError(f"{option} is for recipes of edits; {name} trains {recipe.description}. Those are {stages}")
    return recipe


def with_source(recipe: EditRecipe, embedder: Literal["tied", "own"]) -> EditRecipe:
    """The same run with this way for the source into the DiT, in a folder of its own.

    Where it is not the preset's way, the stages before that train on sources must have gone it too.
    """
    other = preset(recipe.preset).denoiser.source_embedder != embedder
    requires = tuple(f"{name}_{embedder}" if other and _takes_source(name) else name for name in recipe.requires)
    name = f"{recipe.name}_{embedder}"
    return dataclasses.replace(recipe, source_embedder=embedder, name=name, requires=requires)


def _takes_source(name: str) -> bool:
    return name in RECIPES and RECIPES[name]().takes_source()


def command_of(name: str) -> str:
    """What trains the run of that name, also one of with_source."""
    stem, _, embedder = name.rpartition("_")
    if name not in RECIPES and stem in RECIPES and embedder in ("tied", "own"):
        return f"instructx train {stem} --source-embedder {embedder}"
    return f"instructx train {name}"
