"""Stages 1 to 3 of the paper as torchrun does them, two processes on a mixture of files; what they write is a model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from instructx_core.cli import main
from instructx_core.config import PRESETS
from instructx_core.weights import load_pipeline

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from small_paper import small_paper
from small_stages import STAGES, train_stages

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_stages(tmp_path_factory.mktemp("stages"))


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_every_stage_sees_its_part_of_the_mixture(runs: Path) -> None:
    seen = {name: {row["bucket"] for row in rows(runs / name) if "loss" in row} for name in STAGES}
    assert seen["stage1"] == {"image"}
    assert seen["stage2"] == seen["stage3"] == {"image", "image+reference", "video+reference"}
    for name in STAGES:
        shards = sorted((runs / name / "step-0000004" / "model").glob("*.safetensors"))
        assert len(shards) == 2, "each process writes its rows"
        sheet = np.asarray(Image.open(runs / name / "sample-0000004.png"))
        assert sheet.ndim == 3 and sheet.std() > 5
    (validation,) = (row["validation"] for row in rows(runs / "stage3") if "validation" in row)
    assert {"image loss", "image reference loss", "video loss", "video reference loss"} == set(validation)


def test_what_they_write_is_a_model(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """It loads in the library, edits a picture, and `inspect` tells what it is."""
    monkeypatch.setitem(PRESETS, "paper_14b", small_paper)
    model = tmp_path / "model"
    assert main(["train", "export", "--output", str(runs), "--last", "stage3", "--to", str(model)]) == 0
    with safe_open(runs / "stage3" / "final.safetensors", "pt") as file:
        trained = file.get_tensor("encoder.queries.video")
    assert load_pipeline(model).encoder.queries["video"].float().allclose(trained, atol=1e-2)
    picture = tmp_path / "in.png"
    Image.fromarray(np.full((64, 64, 3), 99, np.uint8)).save(picture)
    edit = ["edit", "--input", str(picture), "--instruction", "paint it", "--output", str(tmp_path / "out.png")]
    assert main([*edit, "--model", str(model), "--steps", "2", "--device", "cpu"]) == 0
    assert Image.open(tmp_path / "out.png").size == (64, 64)
    capsys.readouterr()
    assert main(["inspect", str(model)]) == 0
    said = capsys.readouterr().out
    assert all(
        f"{folder:<16} 1 file" in said for folder in ("diffusion_models", "vae", "text_encoders", "model_patches")
    )
    assert f"instructx edit --model {model}" in said
