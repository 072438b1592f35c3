"""All four designs of the study start from public files, at a small width: what is read, is noise, is refused.

And `instructx study run --scale paper --data` trains them from there, as `instructx train stage1` does.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_paper import SHORT, random_state, short_stages, small_paper, write_base
from small_source import SmallSource

from instructx_core.cli import main
from instructx_core.config import PRESETS, Design, InstructXConfig, with_design
from instructx_core.data.sources import SOURCES
from instructx_core.encoder.designs import build_encoder
from instructx_core.encoder.tokenizer import train_tokenizer
from instructx_core.errors import InputError
from instructx_core.formats.layouts.files import BaseFiles, find_base
from instructx_core.formats.layouts.text_encoder import PREFIX, TIED
from instructx_core.study.experiments import EXPERIMENTS
from instructx_core.study.scales import PAPER, SCALES
from instructx_core.study.schedule import all_runs
from instructx_core.training.base import open_base
from instructx_core.training.recipes.edit import EditRecipe
from instructx_core.training.sharding import reader_blocks
from instructx_core.weights import load_pipeline

CPU = torch.device("cpu")


def of_design(kind: Design) -> InstructXConfig:
    config = with_design(small_paper(), kind)
    t5 = dataclasses.replace(config.design.t5, hidden_size=config.denoiser.text_dim, vocab_size=400, num_layers=1)
    return dataclasses.replace(config, design=dataclasses.replace(config.design, t5=t5))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    write_base(folder)
    return folder


def files_of(kind: Design, base: Path, folder: Path) -> BaseFiles:
    """As published; UMT5 holds its embedding once, or under both names."""
    found = find_base(base, {})
    if kind != "t5":
        return found
    state = {name.removeprefix(PREFIX): value for name, value in random_state(build_encoder(of_design(kind))).items()}
    state.pop(TIED, None)
    save_file(state | {"spiece_model": torch.zeros(3, dtype=torch.uint8)}, folder / "umt5_xxl_bf16.safetensors")
    train_tokenizer(["make the circle blue"], 400).save(str(folder / "tokenizer.json"))
    text = {"text_encoder": folder / "umt5_xxl_bf16.safetensors", "tokenizer": folder / "tokenizer.json"}
    return dataclasses.replace(found, **text)


def opened(kind: Design, files: BaseFiles, folder: Path) -> dict[str, torch.Tensor]:
    trained = ("connector",) if kind != "t5" else ("denoiser",)
    recipe: EditRecipe = dataclasses.replace(short_stages()["stage1"], requires=("base",), train=trained)
    parts = open_base(recipe, of_design(kind), folder, files, CPU, encode=True)
    parts.complete(CPU)
    found = dict(parts.parts.root.named_parameters())
    assert not any(parameter.is_meta for parameter in found.values())
    assert reader_blocks(parts.parts.encoder), "what FSDP gathers one at a time"
    return {name: parameter.detach().float() for name, parameter in found.items()}


@pytest.mark.parametrize("kind", ["metaquery", "qformer"])
def test_what_a_connector_starts_as(kind: Design, base: Path, tmp_path: Path) -> None:
    """Norms are ones, the rest small noise of the seed, and the MLLM is the public one."""
    first, again = (opened(kind, files_of(kind, base, tmp_path), tmp_path) for _ in range(2))
    connector = {name: value for name, value in first.items() if name.startswith("encoder.connector.")}
    for name, value in connector.items():
        assert value.equal(again[name])
        if name.endswith("bias"):
            assert not value.any()
        elif value.ndim == 1:
            assert bool((value == 1).all()), name
        else:
            assert 0.003 < float(value.std()) < 0.3, name
    qwen = load_file(base / "text_encoders" / "wan_or_qwen_bf16.safetensors")
    one = first["encoder.mllm.language_model.layers.0.mlp.up_proj.weight"]
    assert any(one.equal(value.float()) for name, value in qwen.items() if name.endswith("layers.0.mlp.up_proj.weight"))


def test_t5_starts_from_wans_own_text_encoder(base: Path, tmp_path: Path) -> None:
    files = files_of("t5", base, tmp_path)
    found, there = opened("t5", files, tmp_path), load_file(files.text_encoder)
    ours = {name.removeprefix(f"encoder.{PREFIX}"): value for name, value in found.items() if PREFIX in name}
    assert all(value.equal(there["shared.weight" if name == TIED else name].float()) for name, value in ours.items())
    assert len(ours) >= len(there) - 1
    assert any(name.startswith("denoiser.condition_embedder.text_embedder.") for name in found)


def test_t5_does_not_start_from_an_mllm(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no text encoder of this model.* takes umT5-XXL"):
        opened("t5", find_base(base, {}), tmp_path)


@pytest.fixture
def shrunken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's scale stands for a small model and runs of two steps."""
    monkeypatch.setitem(PRESETS, "paper_14b", small_paper)
    monkeypatch.setitem(SOURCES, "small", lambda rest: SmallSource(8, ((32, 48), (48, 32))))
    few: dict[str, Any] = SHORT | {"num_steps": 2, "image_pool": 8, "data": None}
    short = dataclasses.replace(PAPER, align=PAPER.align | few, edit=PAPER.edit | few | {"video_pool": 4}, seeds=1)
    monkeypatch.setitem(SCALES, "paper", short)


@pytest.mark.slow
@pytest.mark.usefixtures("shrunken")
def test_the_paper_scale_is_trained_from_public_files(base: Path, tmp_path: Path) -> None:
    """Three designs of Fig. 4, then one of them as a checkpoint folder."""
    output, machine = tmp_path / "runs", ["--device", "cpu", "--threads", "1"]
    command = ["study", "run", "fig4_left", "--scale", "paper", "--data", "small", "--base", str(base)]
    assert main([*command, "--output", str(output), *machine]) == 0
    runs = all_runs(SCALES["paper"], [EXPERIMENTS["fig4_left"]])
    assert [run.recipe.design for run in runs] == ["queries", "metaquery", "qformer"]
    assert all((output / run.name / "final.safetensors").is_file() for run in runs)
    target = tmp_path / "model"
    assert (
        main(["study", "export", runs[1].name, "--scale", "paper", "--output", str(output), "--to", str(target)]) == 0
    )
    assert load_pipeline(target).instructx_config.design.kind == "metaquery"


@pytest.mark.usefixtures("shrunken")
def test_designs_that_start_from_different_files_are_refused_together(tmp_path: Path, capsys: Any) -> None:
    """Before anything is read or written."""
    command = ["study", "run", "a8", "--scale", "paper", "--data", "small", "--output", str(tmp_path / "runs")]
    assert main([*command, "--base", "nowhere", "--device", "cpu"]) == 2
    assert "start from umT5-XXL, the others from Qwen2.5-VL; give --design t5" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
