"""`instructx train lora` as a user runs it, on a model of random weights: resumed, ended early, refused, its files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from taught import save_model, save_pairs

from instructx_core.cli import main
from instructx_core.training.best import Best
from instructx_core.training.metrics import Metrics

SAID = "turn it inside out"
STEPS = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "nano")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pairs(tmp_path_factory.mktemp("pairs") / "negative", 8)


def command(model: Path, pairs: Path, output: Path, *more: str) -> list[str]:
    options = ["--rank", "4", "--batch", "4", "--steps", str(STEPS), "--every", "2", "--threads", "1", "--rate", "1e-3"]
    where = ["--base", str(model), "--pairs", str(pairs), "--output", str(output)]
    return ["train", "lora", *where, "--instruction", SAID, *options, *more]


@pytest.fixture(scope="module")
def trained(model: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("whole")
    assert main(command(model, pairs, output)) == 0
    return output / "lora"


def test_a_run_leaves_a_file_a_sheet_and_its_figures(trained: Path) -> None:
    tensors = load_file(trained / "lora.safetensors")
    assert len(tensors) == 10 * 3 and tensors["diffusion_model.blocks.0.self_attn.q.alpha"] == 4
    assert tensors["diffusion_model.blocks.0.ffn.2.lora_A.weight"].shape == (4, 64)
    with safe_open(trained / "lora.safetensors", "pt") as file:
        told = json.loads(file.metadata()["instructx_lora"])
        assert file.metadata()["ss_network_dim"] == "4"
    assert told["pairs"] == {"train": 6, "val": 2} and told["recipe"]["rank"] == 4 and told["model"] == "tiny"
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["validation"]["image loss"] for row in rows if "validation" in row}
    assert list(losses) == [0, 2, 4, 6] and told["step"] == min(losses, key=losses.__getitem__)
    assert told["validation_loss"] == min(losses.values())
    sheet = np.asarray(Image.open(trained / "sample-0000006.png"))
    assert sheet.shape == (2 * 68 * 2, 4 * 68 * 2, 3) and sheet.std() > 10  # two pairs, four columns, twice as large
    kept = json.loads((trained / "recipe.json").read_text())
    assert kept["base"] and kept["pairs"] and kept["keep_share"] == 0.5


def test_killed_and_resumed_equals_uninterrupted(model: Path, pairs: Path, trained: Path, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "instructx_core", *command(model, pairs, tmp_path)]
    victim = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "lora" / "step-0000002").exists():
        assert victim.poll() is None, "ended before its first checkpoint"
        time.sleep(0.01)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    assert not (tmp_path / "lora" / "lora.safetensors").exists()
    assert main(command(model, pairs, tmp_path)) == 0
    for name in ("final", "lora"):
        whole, resumed = (load_file(folder / f"{name}.safetensors") for folder in (trained, tmp_path / "lora"))
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_run_goes_on_with_the_same_model_and_pairs_only(
    model: Path, pairs: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "runs"
    shutil.copytree(trained.parent, output)
    more = save_pairs(tmp_path / "more", 9)
    assert main(command(model, more, output)) == 2
    assert "another data, pairs; use another --output" in capsys.readouterr().err
    other = shutil.copytree(model, tmp_path / "other")
    file = next((other / "diffusion_models").iterdir())
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert main(command(other, pairs, output)) == 2
    assert "another base; use another --output" in capsys.readouterr().err


def test_validation_that_turns_ends_the_run_with_the_best_weights(model: Path, pairs: Path, tmp_path: Path) -> None:
    """At a rate at which nothing is learnt."""
    more = ("--rate", "3", "--patience", "2", "--every", "1", "--steps", "40")
    assert main(command(model, pairs, tmp_path, *more)) == 0
    rows = [json.loads(line) for line in (tmp_path / "lora" / "metrics.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["validation"]["image loss"] for row in rows if "validation" in row}
    best = min(losses, key=losses.__getitem__)
    assert max(losses) == best + 2 < 40
    with safe_open(tmp_path / "lora" / "lora.safetensors", "pt") as file:
        assert json.loads(file.metadata()["instructx_lora"])["step"] == best
    before = (tmp_path / "lora" / "final.safetensors").read_bytes()
    assert main(command(model, pairs, tmp_path, *more)) == 0  # again: it is over, and nothing moves
    assert (tmp_path / "lora" / "final.safetensors").read_bytes() == before


def test_the_best_is_remembered(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl", enabled=True)
    best = Best(tmp_path, 2, metrics)
    for step, loss in ((0, 3.0), (1, 1.0), (2, 2.0)):
        metrics.write({"step": step, "validation": {"image loss": loss}})
        best.offer(step, {"image loss": loss, "image moved": 9.0}, _write)
    assert (best.step, best.loss, best.is_over()) == (1, 1.0, False)
    metrics.write({"step": 3, "validation": {"image loss": 1.5}})
    again = Best(tmp_path, 2, metrics)
    assert (again.step, again.loss, again.is_over()) == (1, 1.0, True)


def _write(path: Path, about: dict[str, str]) -> None:
    save_file({"x": torch.zeros(1)}, path, about)


def test_the_mllm_learns_too_and_its_part_goes_into_an_adapter(
    model: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One LoRA of the rank of both: 2 of the model, 3 of the run."""
    assert main(command(model, pairs, tmp_path, "--mllm-lora", "3", "--steps", "2")) == 0
    adapter = tmp_path / "lora" / "lora_adapter.safetensors"
    tensors = load_file(adapter)
    assert tensors["model.layers.0.self_attn.q_proj.lora_A.weight"].shape == (5, 32)
    assert tensors["model.layers.0.self_attn.q_proj.alpha"] == 5
    names = [name for name in load_file(tmp_path / "lora" / "final.safetensors") if "encoder.mllm" in name]
    assert len(names) == 14
    source = next(pairs.glob("*_before.png"))
    parts = ["--model", str(model), "--part", f"adapter={adapter}", "--lora", str(tmp_path / "lora/lora.safetensors")]
    result = tmp_path / "out.png"
    line = ["edit", *parts, "--input", str(source), "--instruction", SAID, "--output", str(result), "--steps", "1"]
    assert main(line) == 0 and result.is_file()
    assert "LoRA of rank 4 on 10 weights" in capsys.readouterr().err


def _one_left(folder: Path) -> None:
    (folder / "03_after.png").unlink()


def _damaged(folder: Path) -> None:
    path = folder / "03_after.png"
    path.write_bytes(path.read_bytes()[:200])


def _other_size(folder: Path) -> None:
    Image.new("RGB", (64, 80)).save(folder / "03_after.png")


def _twice(folder: Path) -> None:
    Image.new("RGB", (64, 64)).save(folder / "03_after.jpg")


def _few(folder: Path) -> None:
    for path in folder.glob("0[3-9]*"):
        path.unlink()


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pair without its other half": (_one_left, "03: it has no target; add 03_target"),
    "a damaged picture": (_damaged, "03"),
    "another size": (_other_size, "the source is 64x64 and the target 64x80"),
    "two files of one name": (_twice, "two files are its target"),
    "too few pairs": (_few, "fewer than its batch of 4"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_bad_pairs_are_refused_before_anything_is_written(
    model: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    spoil, said = BROKEN[name]
    folder = shutil.copytree(pairs, tmp_path / "pairs")
    spoil(folder)
    assert main(command(model, folder, tmp_path / "runs")) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--instruction", " "], "--instruction is empty"),
        (["--rank", "0"], "--rank is 0"),
        (["--rate", "nan"], "--rate is nan"),
        (["--validation", "1"], "validation is 1"),
        (["--keep", "missing.txt"], "missing.txt: cannot be read"),
        (["--pairs", "nowhere"], "nowhere: no such file or folder"),
        (["--base", "nowhere"], "no folder nowhere"),
    ],
)
def test_bad_options_are_refused(
    model: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert main(command(model, pairs, tmp_path / "runs", *more)) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_pairs_need_an_instruction(
    model: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = command(model, pairs, tmp_path / "runs")
    del line[line.index("--instruction") : line.index("--instruction") + 2]
    assert main(line) == 2
    assert "it has no instruction; write 00.txt, or one instruction.txt for all" in capsys.readouterr().err
