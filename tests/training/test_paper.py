"""The paper's three stages at a small width, from files as published: what is read, trained, written, refused."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from instructx_core.cli import main
from instructx_core.config import PRESETS
from instructx_core.data.sources import SOURCES
from instructx_core.formats.layouts.files import find_base
from instructx_core.training.base import open_base
from instructx_core.training.recipes.registry import RECIPES
from instructx_core.weights import load_pipeline

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from small_paper import short_stages, small_paper, write_base
from small_source import SmallSource

STAGES = ("stage1", "stage2", "stage3")
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def shrunken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's names stand for a small model and short runs."""
    shrink(monkeypatch)


def shrink(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(PRESETS, "paper_14b", small_paper)
    patch.setitem(SOURCES, "small", lambda rest: SmallSource(8, ((32, 48), (48, 32))))
    for name, recipe in short_stages(num_steps=2).items():
        patch.setitem(RECIPES, name, lambda recipe=recipe: recipe)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_base(folder)
    return folder


@pytest.fixture(scope="module")
def runs(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All three stages by their commands, the base named once."""
    output = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        for name in STAGES:
            more = ["--base", str(base)] if name == "stage1" else []
            assert main(["train", name, "--output", str(output), "--device", "cpu", "--threads", "1", *more]) == 0
    return output


def test_the_stages_train_what_the_paper_trains(runs: Path) -> None:
    """And each goes on from the one before: stage 3 holds all that stage 2 holds, stage 2 all of stage 1."""
    names = {}
    for stage in STAGES:
        with safe_open(runs / stage / "final.safetensors", "pt") as file:
            names[stage] = set(file.keys())
    assert not any(name.startswith("denoiser.") for name in names["stage1"])
    assert any("visual" in name and ".lora_" in name for name in names["stage1"]), "LoRA of the whole MLLM"
    assert names["stage1"] < names["stage2"] == names["stage3"]
    assert any(name.startswith("denoiser.blocks.") for name in names["stage2"])


def test_lora_of_the_vision_tower_learns(runs: Path) -> None:
    """Frames are kept instead of its features, so that gradients reach it."""
    tensors = load_file(runs / "stage2" / "final.safetensors")
    up = {name: tensor for name, tensor in tensors.items() if ".visual." in name and ".lora_B." in name}
    assert up and all(tensor.abs().max() > 0 for tensor in up.values())


def test_what_is_frozen_is_the_public_file(runs: Path, base: Path, tmp_path: Path) -> None:
    """The folder that comes out is a model as any other, tells what it is, and its MLLM is bit for bit Qwen's."""
    assert main(["train", "export", "--output", str(runs), "--last", "stage3", "--to", str(tmp_path / "model")]) == 0
    before = load_file(base / "text_encoders" / "wan_or_qwen_bf16.safetensors")
    after = load_file(tmp_path / "model" / "text_encoders" / "instructx_paper_14b.safetensors")
    assert before.keys() == after.keys() and all(before[name].equal(after[name]) for name in before)
    trained = load_file(tmp_path / "model" / "diffusion_models" / "instructx_paper_14b.safetensors")
    started = load_file(base / "diffusion_models" / "wan_or_qwen_bf16.safetensors")
    assert any(not trained[name].equal(started[name]) for name in started)
    pipeline = load_pipeline(tmp_path / "model")
    assert pipeline.instructx_config.profile == "instructx"
    assert main(["inspect", str(tmp_path / "model")]) == 0


@pytest.mark.parametrize("world", ["shapes", "world"])
def test_the_procedural_world_serves_these_stages_too(world: str, base: Path, tmp_path: Path) -> None:
    """Stage 1 reads its pictures, stage 2 its clips as well, as any other data."""
    for stage, more in (("stage1", ["--base", str(base)]), ("stage2", [])):
        options = ["--output", str(tmp_path), "--device", "cpu", "--threads", "1", *more]
        assert main(["train", stage, "--data", world, "--steps", "1", *options]) == 0
        assert (tmp_path / stage / "final.safetensors").is_file()


def test_published_folders_give_the_same_numbers(base: Path, tmp_path: Path) -> None:
    """Diffusers' names in shards, Qwen's shards: the same tensors as the single files of ComfyUI."""
    given = write_base(tmp_path, published=True)
    recipe = dataclasses.replace(short_stages()["stage1"], requires=("base",), precision="bf16")
    states = []
    for files in (find_base(base, {}), find_base(tmp_path, {"text_encoder": given["text_encoder"]})):
        opened = open_base(recipe, small_paper(), tmp_path, files, CPU, encode=True)
        trained = opened.complete(CPU)
        assert {parameter.dtype for parameter in trained.values()} == {torch.float32}
        states.append(dict(opened.parts.root.named_parameters()))
    first, second = states
    assert first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)
    frozen = {parameter.dtype for name, parameter in first.items() if name.startswith("denoiser.blocks.0.attn1.to_q")}
    assert frozen == {torch.bfloat16}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], r"no base weights; give --base FOLDER .*"),
        (["--base", "nowhere"], r"no folder nowhere; give .*"),
        (["--part", "denoiser=x"], r"no .* was given; give --part .*"),
        (["--offload"], r"offload moves the shards .* shard the run"),
    ],
)
def test_a_base_that_is_not_there(options: list[str], said: str, tmp_path: Path, capsys) -> None:
    output = tmp_path / "runs"
    assert main(["train", "stage1", "--output", str(output), "--device", "cpu", *options]) == 2
    assert re.fullmatch(f"error: {said}", capsys.readouterr().err.splitlines()[-1])
    assert not output.exists(), "nothing half-written"


def test_a_base_of_another_model(base: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    command = ["train", "stage1", "--output", str(tmp_path / "runs"), "--device", "cpu", "--base", str(base)]
    monkeypatch.setitem(PRESETS, "paper_14b", lambda: small_paper(dim=256, num_heads=2))
    assert main(command) == 2
    assert "is a Wan DiT" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "stage1").exists() and not (tmp_path / "runs" / "base.json").exists()


def test_runs_of_other_files_or_another_model(runs: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    """A stage in a folder whose stages started from another base, or are of another model, is refused."""
    noted = json.loads((runs / "base.json").read_text())
    other = tmp_path / "base"
    write_base(other)
    for name, part in noted.items():
        noted[name] = part
    file = other / "vae" / "wan_or_qwen_bf16.safetensors"
    file.write_bytes(file.read_bytes() + b" ")
    assert main(["train", "stage2", "--output", str(runs), "--device", "cpu", "--base", str(other)]) == 2
    assert "started from other files" in capsys.readouterr().err
    monkeypatch.setitem(PRESETS, "paper_14b", lambda: dataclasses.replace(small_paper(), lora=LORA))
    (tmp_path / "again").mkdir()
    for name in ("base.json", "tokenizer.json", "stage1"):
        (tmp_path / "again" / name).symlink_to(runs / name)
    assert main(["train", "stage2", "--output", str(tmp_path / "again"), "--device", "cpu"]) == 2
    assert re.search(
        r"lora_A\S* is \(4, \d+\), the model has \(2, \d+\); it is a run of another", capsys.readouterr().err
    )


LORA = dataclasses.replace(small_paper().lora, rank=2, alpha=2)


class FullCard(SmallSource):
    """Raises what torch raises when a card is full, at the first sample."""

    def edit(self, split, number, bucket):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines")


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ([], "give --recompute"),
        (["--recompute"], "give --shard under torchrun"),
        (["--recompute", "--shard"], "give --micro 1"),
        (["--recompute", "--shard", "--micro", "1"], "give --offload"),
        (["--recompute", "--shard", "--micro", "1", "--offload"], "start more processes"),
    ],
)
def test_a_full_card_names_the_next_smaller_plan(options, remedy, base, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(SOURCES, "small", lambda rest: FullCard(8, ((32, 48), (48, 32))))
    command = ["train", "stage1", "--output", str(tmp_path), "--device", "cpu", "--base", str(base), *options]
    assert main(command) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "Tried to allocate 2.00 GiB.); " + remedy in said and "More lines" not in said
