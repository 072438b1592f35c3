"""Does the machine give the same bits again? The last steps of a finished run, from its checkpoint before the end.

Beside run.py: the same job and the same trainer in a folder of their own, which is removed; then the two files of final
weights are compared.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

from ...config import preset
from ...errors import InputError
from .. import distributed
from ..checkpoint import step_folders
from ..machine import Machine
from ..recipes.base import Recipe
from ..trainer import FINAL, Trainer
from .run import build_job


def repeat(recipe: Recipe, output: Path, machine: Machine) -> tuple[int, list[str]]:
    """The number of steps done again, and the names of the tensors that came out otherwise.

    Raises InputError for a run that is not finished or has no checkpoint before its end.
    """
    folder, again = output / recipe.name, output / f".again-{recipe.name}"
    found = [(json.loads((path / "state.json").read_text())["step"], path) for path in step_folders(folder)]
    earlier = [(step, path) for step, path in found if step < recipe.num_steps]
    if not earlier or not (folder / FINAL).is_file():
        raise InputError(f"{folder} holds no finished run with a checkpoint before its end; train {recipe.name} first")
    step, path = earlier[-1]
    rank, _ = distributed.setup()
    if not rank:
        shutil.rmtree(again, ignore_errors=True)
        shutil.copytree(path, again / path.name)
    distributed.wait()
    try:
        Trainer(recipe, build_job(recipe, preset(recipe.preset), output, machine), again).run()
        first, second = load_file(folder / FINAL), load_file(again / FINAL)
        names = first.keys() | second.keys()
        equal = {name for name in first.keys() & second.keys() if torch.equal(first[name], second[name])}
        distributed.wait()
    finally:
        if not rank:
            shutil.rmtree(again, ignore_errors=True)
    return recipe.num_steps - step, sorted(names - equal)
