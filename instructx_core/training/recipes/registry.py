"""RECIPES: every recipe by its name, for `instructx train NAME`."""

from __future__ import annotations

from collections.abc import Callable

from ...errors import InputError
from .base import Recipe
from .paper import stage1, stage2, stage3
from .tiny import (
    tiny_decoder,
    tiny_dit,
    tiny_mllm,
    tiny_mllm_words,
    tiny_stage1,
    tiny_stage2,
    tiny_stage3,
    tiny_vae,
    tiny_vae_image,
)

RECIPES: dict[str, Callable[[], Recipe]] = {
    "stage1": stage1,
    "stage2": stage2,
    "stage3": stage3,
    "tiny_vae_image": tiny_vae_image,
    "tiny_vae": tiny_vae,
    "tiny_mllm": tiny_mllm,
    "tiny_mllm_words": tiny_mllm_words,
    "tiny_dit": tiny_dit,
    "tiny_stage1": tiny_stage1,
    "tiny_stage2": tiny_stage2,
    "tiny_stage3": tiny_stage3,
    "tiny_decoder": tiny_decoder,
}


def find_recipe(name: str) -> Recipe:
    """Raises InputError for an unknown name; docs/training.md has the runs of the shipped model that are none."""
    if name not in RECIPES:
        raise InputError(
            f"no recipe {name!r}; known: {', '.join(RECIPES)}. Names and settings of all runs that made the shipped "
            'model are in docs/training.md, "How the shipped model was made"'
        )
    return RECIPES[name]()
