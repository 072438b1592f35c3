"""`instructx train tiny` on a nano model: all recipes, the checkpoint folder and its card; and the same bits again."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from instructx_core.cli import main
from instructx_core.config import PRESETS
from instructx_core.data.sources import SOURCES
from instructx_core.training.machine import Machine
from instructx_core.training.recipes.registry import RECIPES
from instructx_core.training.recipes.sized import CHANGES, for_gpu, rehearsal
from instructx_core.training.recipes.tiny import HOURS, TINY
from instructx_core.training.runs import chain as chain_of_runs
from instructx_core.weights import SHIPPED, load_pipeline

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
from nano import small_vae
from small_source import SmallSource


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the chain trains a nano model on a small source."""
    monkeypatch.setitem(SOURCES, "world", lambda rest: SmallSource(8))
    monkeypatch.setitem(PRESETS, "tiny2", small_vae)
    folder = tmp_path / "runs"
    folder.mkdir()
    shutil.copy(SHIPPED / "tokenizer.json", folder)
    return folder


def chain(output: Path, *options: str) -> int:
    return main(["train", "tiny", "--rehearse", "--output", str(output), "--device", "cpu", *options])


def test_the_chain_from_nothing_to_a_model(output: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Given again it trains nothing; one recipe that is missing is made anew; another recipe is refused."""
    caplog.set_level(logging.INFO, "instructx")
    assert chain(output) == 0
    assert all((output / name / "final.safetensors").is_file() for name in TINY)
    assert list(json.loads((output / "minutes.json").read_text())) == list(TINY)
    load_pipeline(output / "tiny")
    card = (output / "tiny" / "README.md").read_text()
    assert all(f"| `{name}` |" in card for name in TINY) and "Not yet." in card
    assert all(f"about {HOURS[name]:g} hours" in caplog.text for name in TINY)
    times = [(output / name / "final.safetensors").stat().st_mtime_ns for name in TINY]
    shutil.rmtree(output / "tiny_stage3")
    caplog.clear()
    assert chain(output, "--to", str(output / "again")) == 0
    assert caplog.text.count("there already") == len(TINY) - 1
    assert [(output / name / "final.safetensors").stat().st_mtime_ns for name in TINY][:-1] == times[:-1]
    files = sorted(path.relative_to(output / "tiny") for path in (output / "tiny").rglob("*.safetensors"))
    assert files
    for name in files:
        first, second = load_file(output / "tiny" / name), load_file(output / "again" / name)
        assert first.keys() == second.keys() and all(first[key].equal(second[key]) for key in first)


def test_an_interrupted_recipe_counts_all_of_its_minutes(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = rehearsal(RECIPES["tiny_vae"]())
    ticks = iter([0, 600, 600, 1500])  # seconds at which the two stretches begin and end
    monkeypatch.setattr(chain_of_runs, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    first, through = chain_of_runs.train, lambda *given: first(given[0], given[1], 2, given[3])
    monkeypatch.setattr(chain_of_runs, "train", through)
    assert not chain_of_runs.train_chain([recipe], output, Machine())
    assert json.loads((output / "minutes.json").read_text()) == {"tiny_vae": 10.0}
    monkeypatch.setattr(chain_of_runs, "train", first)
    assert chain_of_runs.train_chain([recipe], output, Machine())
    assert json.loads((output / "minutes.json").read_text()) == {"tiny_vae": 25.0}


def test_a_finished_run_of_another_recipe_is_refused(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "tiny_vae", "--rehearse", "--output", str(output), "--device", "cpu"]
    assert main(command) == 0
    assert chain(output, "--seed", "3") == 2
    assert "is of a recipe with another seed; move" in capsys.readouterr().err
    assert chain(output, "--steps", "6") == 2
    assert "is of a recipe with another num_steps; move" in capsys.readouterr().err
    assert chain(output, "--repeat") == 2


@pytest.mark.parametrize("change", [False, True])
def test_the_last_steps_give_the_same_bits(output: Path, change: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "instructx")
    command = ["train", "tiny_vae", "--rehearse", "--output", str(output), "--device", "cpu"]
    assert main(command) == 0
    final = output / "tiny_vae" / "final.safetensors"
    if change:
        tensors = load_file(final)
        tensors["vae.post_quant_conv.bias"][0] += 1e-6
        save_file(tensors, final)
    before = final.read_bytes()
    assert main([*command, "--repeat"]) == int(change)
    said = "other bits in 1 tensors, e.g. vae.post_quant_conv.bias" if change else "the last 2 steps again: the same"
    assert said in caplog.text and final.read_bytes() == before
    assert not list(output.glob(".again*"))


def test_only_a_finished_run_is_repeated(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tiny_vae", "--rehearse", "--output", str(output), "--repeat"]) == 2
    assert "holds no finished run with a checkpoint before its end" in capsys.readouterr().err


def test_sizes_of_the_recipes() -> None:
    """Those for a GPU change what they say and nothing else; a rehearsal trains what the recipe trains."""
    assert set(CHANGES) == set(TINY) == set(HOURS)
    for name in TINY:
        recipe = RECIPES[name]()
        gpu: dict[str, Any] = for_gpu(recipe).as_json()
        changed = {key for key, value in recipe.as_json().items() if gpu[key] != value}
        assert changed <= set(CHANGES[name]) and gpu["num_steps"] < recipe.num_steps
        short = rehearsal(recipe)
        assert short.num_steps == 4 and short.requires == recipe.requires and short.preset == recipe.preset
        assert bool(short.video_probability) == bool(recipe.video_probability)
    stage = dataclasses.asdict(rehearsal(RECIPES["tiny_stage1"]()))
    assert stage["image_pool"] and not stage["video_pool"] and not stage["image_reference_pool"]
