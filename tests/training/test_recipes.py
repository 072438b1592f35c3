"""Recipes by job: each kind has its own fields, every name builds, unknown names and missing data are refused."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path

import pytest

from instructx_core.cli import main
from instructx_core.config import PRESETS
from instructx_core.data.sources import SOURCES
from instructx_core.errors import InputError
from instructx_core.training.recipes.base import FROM_BASE, FROM_SHIPPED, Recipe
from instructx_core.training.recipes.edit import EditRecipe
from instructx_core.training.recipes.mllm import MllmRecipe
from instructx_core.training.recipes.registry import RECIPES, find_recipe, with_source
from instructx_core.training.recipes.text_to_video import TextToVideoRecipe
from instructx_core.training.recipes.tiny import TINY
from instructx_core.training.recipes.vae import VaeRecipe
from instructx_core.training.runs.run import JOBS, train
from instructx_core.training.start import final_weights, run_recipe, trains_shipped

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from nano import FAST, small_vae
from small_source import SmallSource

DOCUMENT = Path(__file__).parents[2] / "docs" / "training.md"


def names(kind: type[Recipe]) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def test_a_recipe_has_the_fields_of_its_job_and_no_other() -> None:
    assert not names(VaeRecipe) & {"instruction_dropout", "train", "shift", "reference_probability", "tasks"}
    assert not names(EditRecipe) & {"crops"}
    assert not names(MllmRecipe) & {"crops", "shift", "instruction_dropout"}
    assert not names(TextToVideoRecipe) & {"crops", "source_latents", "instruction_dropout", "train"}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_and_requires_existing_ones(name: str) -> None:
    recipe = find_recipe(name)
    assert recipe.name == name and recipe.description and recipe.preset in PRESETS
    assert set(recipe.requires) <= {*RECIPES, FROM_SHIPPED, FROM_BASE} and recipe.data in {None, *SOURCES}
    assert list(RECIPES).index(name) > max(
        (list(RECIPES).index(r) for r in recipe.requires if r != FROM_BASE), default=-1
    )
    assert type(recipe) in JOBS
    assert json.loads(json.dumps(recipe.as_json())) == recipe.as_json() and recipe.as_json()["job"] == recipe.job


def test_names_that_are_no_recipe_are_refused_with_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["tiny_tone"], ["export", "--last", "tiny_tone", "--to", "x"]):
        assert main(["train", *arguments]) == 2
        error = capsys.readouterr().err
        assert "no recipe 'tiny_tone'" in error and "tiny_stage2" in error and "docs/training.md" in error
    text = DOCUMENT.read_text(encoding="utf-8")
    assert "## How the shipped model was made" in text and "`tiny_tone`" in text


@pytest.mark.parametrize("name", ["stage1", "stage2", "stage3"])
def test_the_papers_stages_say_that_there_is_no_data(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{name} has no data source; give --data.*mixture"):
        train(find_recipe(name), tmp_path)
    assert not list(tmp_path.iterdir())


def test_data_that_cannot_be_opened_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["train", "stage1", "--output", str(tmp_path)]
    for spec, said in (("films:x", "no data source 'films'"), ("shapes:x", "shapes:x: .*takes no path; give shapes")):
        assert main([*given, "--data", spec]) == 2
        assert re.search(said, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_the_spec_of_the_data_is_kept_and_must_be_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = []

    def open_small(rest: str) -> SmallSource:
        opened.append(rest)
        return SmallSource(count=8)

    monkeypatch.setitem(SOURCES, "small", open_small)
    monkeypatch.setitem(PRESETS, "tiny", small_vae)
    monkeypatch.setitem(
        RECIPES,
        "short",
        lambda: VaeRecipe(**FAST | {"name": "short", "description": "", "num_steps": 2, "image_pool": 4}),
    )
    command = ["train", "short", "--output", str(tmp_path)]
    assert main([*command, "--data", "small:a:b", "--stop-at", "1"]) == 0
    assert opened == ["a:b"] and run_recipe(tmp_path, "short")["data"] == "small:a:b"
    assert main([*command, "--data", "small:c"]) == 2
    assert "holds a run with another data" in capsys.readouterr().err
    assert run_recipe(tmp_path, "short")["data"] == "small:a:b", "a run that is refused leaves the other as it is"
    assert main([*command, "--data", "small:a:b"]) == 0


def test_the_source_embedder_is_a_choice_of_edits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = find_recipe("tiny_stage2")
    assert isinstance(stage, EditRecipe)
    tied = with_source(stage, "tied")
    assert (tied.name, tied.source_embedder) == ("tiny_stage2_tied", "tied")
    assert main(["train", "tiny_mllm", "--source-embedder", "tied", "--output", str(tmp_path)]) == 2
    assert "--source-embedder is for recipes of edits" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_tied_stage_goes_on_from_tied_ones(tmp_path: Path) -> None:
    """Stage 1 is given no source, so it is the same for both; the preset's own way needs no run of another name."""
    last = find_recipe("tiny_stage3")
    assert isinstance(last, EditRecipe)
    assert with_source(last, "tied").requires == (*last.requires[:-1], "tiny_stage2_tied")
    assert with_source(last, "own").requires == last.requires
    with pytest.raises(InputError, match="run `instructx train tiny_stage2 --source-embedder tied --output"):
        final_weights(tmp_path, "tiny_stage2_tied")


def test_the_model_says_whether_it_is_the_shipped_one() -> None:
    of_shapes = dataclasses.replace(find_recipe("tiny_stage3"), preset="tiny")
    assert trains_shipped(of_shapes) and not trains_shipped(find_recipe("stage3"))


def test_the_document_names_every_recipe() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    found = set(re.findall(r"instructx train (\w+)", text)) | set(re.findall(r"^\| `(tiny_\w+)`", text, re.MULTILINE))
    assert found >= {*TINY, "RECIPE", "tiny", "export"}
    former = {name for name in found if name.startswith("tiny_")} - {*RECIPES}
    history = text[text.index("## How the shipped model was made") :]
    assert former and all(f"\n| `{name}`" in history for name in former)
    for name in TINY:
        steps = f"{RECIPES[name]().num_steps:,}"
        assert re.search(rf"^\| `{name}` \|.*\| {steps} \|", text, re.MULTILINE), f"{name} has {steps} steps"
