"""Any data source will do: no file of training/ knows a world, and every job trains on one that is no world."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from instructx_core.data.source import PretrainingSource
from instructx_core.data.sources import SOURCES
from instructx_core.errors import InputError
from instructx_core.training.recipes.base import Recipe
from instructx_core.training.recipes.edit import EditRecipe
from instructx_core.training.recipes.mllm import MllmRecipe
from instructx_core.training.recipes.text_to_video import TextToVideoRecipe
from instructx_core.training.recipes.vae import Crops, VaeRecipe
from instructx_core.training.runs.run import JOBS, build_job
from instructx_core.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from nano import FAST, POOLS, nano_stage1, nano_stage2, small_vae
from small_source import SmallSource
from sources import SOURCES as FILES


@pytest.mark.parametrize("world", ["shapes", "world"])
@pytest.mark.parametrize("room", ["data", "training"])
def test_one_file_alone_knows_the_world(room: str, world: str) -> None:
    files = [source for source in FILES.values() if source.name.startswith(f"instructx_core/{room}/")]
    assert len(files) > 5
    for source in files:
        known = any(imported.module.startswith(f"instructx_core.{world}") for imported in source.imports)
        known |= "instructx_core" in {i.module for i in source.imports} and f"import {world}\n" in source.text
        assert known == (source.name == f"instructx_core/data/{world}.py"), source.name


def test_the_runs_alone_know_the_jobs() -> None:
    """Jobs use what training holds; runs/ makes them, an artist's LoRA apart, and nothing that a job uses knows a job.

    The study, above training, measures with a stage's job.
    """
    jobs = "instructx_core.training.jobs"
    above = (jobs, "instructx_core.study")
    outside = [source for source in FILES.values() if not source.module.startswith(above)]
    known = {source.name for source in outside if any(i.module.startswith(jobs) for i in source.imports)}
    assert known == {"instructx_core/training/runs/run.py", "instructx_core/training/runs/lora.py"}


@pytest.mark.parametrize("kind", [kind for kind in JOBS if not issubclass(kind, EditRecipe)])
def test_a_job_says_what_its_data_must_have(
    kind: type[Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source of edit pairs alone serves the stages; the jobs before them are refused before anything is built."""

    class Pairs:
        name, version = "pairs", "1"
        buckets, size, task, edit = (getattr(SmallSource(1), each) for each in ("buckets", "size", "task", "edit"))

    monkeypatch.setitem(SOURCES, "pairs", lambda rest: Pairs())
    assert isinstance(Pairs(), JOBS[EditRecipe].needs)
    with pytest.raises(InputError, match="pairs has edit pairs only"):
        build_job(pretraining(kind, data="pairs"), small_vae(), tmp_path)


def pretraining(kind: type[Recipe], **values: object) -> Recipe:
    own_way = FAST | {"name": kind.job, "description": "", "data": "small", "num_steps": 4, "video_probability": 0.5}
    return kind(**own_way | values)


RECIPES = [
    pretraining(VaeRecipe, crops=(Crops(32, 0.5, 4, 2),), ema_decay=0.9, image_pool=4, video_pool=2),
    pretraining(MllmRecipe, image_pool=4, video_pool=2),
    pretraining(TextToVideoRecipe, image_pool=4, video_pool=2),
    nano_stage1(data="small", image_pool=4),
    nano_stage2(data="small", num_steps=4, video_probability=0.5, reference_probability=0.5, **POOLS),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=[recipe.name for recipe in RECIPES])
def test_every_job_trains_on_it(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sizes in one run, five frames, few samples, and nothing that can judge an edit."""
    torch.manual_seed(0)
    monkeypatch.setitem(SOURCES, "small", lambda rest: SmallSource(count=8))
    assert isinstance(SmallSource(1), PretrainingSource)
    job = build_job(recipe, small_vae(), tmp_path)
    sizes = {
        (b.height, b.width) for b in (job.global_batch(step).bucket for step in range(40)) if b.modality == "image"
    }
    assert sizes == {(64, 96), (96, 64)}
    Trainer(recipe, job, tmp_path / "run").run()
    assert (tmp_path / "run" / "final.safetensors").is_file()
    values = job.validate()
    assert values and not any("failed" in name for name in values)
    job.picture(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000
