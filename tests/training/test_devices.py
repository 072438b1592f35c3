"""A job on another device than the CPU: no tensor of a step stays behind.

The device is "meta", on which torch computes shapes alone, but refuses to mix tensors with those of the CPU, as a GPU
does. Samples are drawn and encoded on the CPU first, then the models move.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import masking_utils

from instructx_core.data.sources import SOURCES
from instructx_core.errors import InputError
from instructx_core.training.checkpoint import optimizer_tensors, restore_optimizer
from instructx_core.training.job import GlobalBatch
from instructx_core.training.machine import CPU, find_device
from instructx_core.training.muon import Muon
from instructx_core.training.recipes.base import Recipe
from instructx_core.training.recipes.mllm import MllmRecipe
from instructx_core.training.recipes.text_to_video import TextToVideoRecipe
from instructx_core.training.recipes.vae import Crops, VaeRecipe
from instructx_core.training.runs.run import build_job

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from nano import FAST, POOLS, nano_stage2, small_vae
from small_source import SmallSource

META = torch.device("meta")
VALUES: dict[str, Any] = FAST | {"description": "", "data": "small", "num_steps": 4, "image_pool": 4, "video_pool": 2}
RECIPES = [
    VaeRecipe(**VALUES | {"name": "vae", "crops": (Crops(32, 0.5, 4, 2),)}),
    MllmRecipe(**VALUES | {"name": "mllm"}),
    TextToVideoRecipe(**VALUES | {"name": "text_to_video"}),
    nano_stage2(data="small", **POOLS),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=[recipe.name for recipe in RECIPES])
def test_a_step_mixes_no_devices(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "small", lambda rest: SmallSource(count=8))
    # A shortcut of transformers asks whether a mask is all ones, a value that no tensor here has.
    monkeypatch.setattr(masking_utils, "_ignore_bidirectional_mask_sdpa", lambda *rest: False, raising=False)
    job: Any = build_job(recipe, small_vae(), tmp_path)
    job.device = META
    for value in list(vars(job).values()):
        if isinstance(value, nn.Module):
            value.to(META)
    for bucket in job.pools:
        loss = job.loss(0, GlobalBatch(bucket, 2, 2), range(2))
        assert loss.device == META
        loss.backward()


def test_a_restored_optimizer_is_where_its_parameters_are() -> None:
    """Apart from the steps of AdamW, which torch counts on the CPU."""
    parameter = nn.Parameter(torch.ones(4, 4))
    names = {parameter: "w"}
    for make in (torch.optim.AdamW, Muon):
        optimizer = make([parameter], lr=0.1)
        parameter.grad = torch.ones(4, 4)
        optimizer.step()
        tensors = optimizer_tensors([optimizer], names)
        moved = nn.Parameter(parameter.to(META))
        other = make([moved], lr=0.1)
        restore_optimizer(other, {moved: "w"}, tensors)
        assert {key: value.device.type for key, value in other.state[moved].items() if key != "step"}
        assert all((value.device == META) == (key != "step") for key, value in other.state[moved].items())


def test_a_device_by_its_name() -> None:
    assert find_device("cpu") == CPU
    with pytest.raises(InputError, match="use cpu or cuda"):
        find_device("tpu")
    if not torch.cuda.is_available():
        assert find_device(None) == CPU
        with pytest.raises(InputError, match="finds no GPU"):
            find_device("cuda")
