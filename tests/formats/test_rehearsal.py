"""Rehearsal: one small model in every layout in which artists have the real one, through the command line.

All layouts hold the same bf16 numbers, so the pictures must be the same to the last bit. On a real host:
tests/comfyui/test_rehearsal.py.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from instructx_core.cli import main
from instructx_core.formats.convert import convert
from instructx_core.formats.verify import verify


@pytest.fixture(scope="module")
def small(load_helper, tmp_path_factory: pytest.TempPathFactory) -> Any:
    models = load_helper("instructx_test_models", "formats/models.py")
    return models.Small(tmp_path_factory.mktemp("small") / "model", load_helper("instructx_test_tiny", "core/tiny.py"))


@pytest.fixture(scope="module")
def edit(tmp_path_factory: pytest.TempPathFactory):
    """edit("--model", ...) -> the picture, uint8; with a reference, in two steps."""
    folder = tmp_path_factory.mktemp("edit")
    rng = np.random.default_rng(0)
    for name, side in (("source", 64), ("reference", 48)):
        Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(folder / f"{name}.png")

    def run(*model: object) -> np.ndarray:
        output = folder / "out.png"
        output.unlink(missing_ok=True)
        code = main(
            ["edit", "--input", str(folder / "source.png"), "--reference", str(folder / "reference.png"),
             "--instruction", "make it blue", "--steps", "2", "--output", str(output), "--device", "cpu",
             "--dtype", "float32", *map(str, model)]
        )  # fmt: skip
        assert code == 0
        return np.array(Image.open(output))

    return run


@pytest.fixture(scope="module")
def want(small: Any, edit: Any) -> np.ndarray:
    """The picture from the shipped layout."""
    picture = edit("--model", small.root)
    assert picture.std() > 5, "a picture, not one colour"
    return picture


def parts(small: Any, **changed: object) -> list[object]:
    """--part options: the shipped layout's files, some of them replaced, None for one that is not given."""
    given = {
        "vae": small.files.vae,
        "text_encoder": small.files.text_encoder,
        "tokenizer": small.files.tokenizer,
    } | changed
    return [word for name, path in given.items() if path is not None for word in ("--part", f"{name}={path}")]


def test_kiwi_training_file(small: Any, edit: Any, want: np.ndarray, tmp_path: Path) -> None:
    """With Qwen as a folder of the model hub: shards, an index, the newer names, the tokenizer beside."""
    file = small.training_file(tmp_path / "stage3.safetensors")
    hub = small.hub_qwen(tmp_path / "Qwen2.5-VL-3B-Instruct", newer=True)
    shutil.copy(small.files.tokenizer, hub / "tokenizer.json")
    assert np.array_equal(edit("--model", file, *parts(small, text_encoder=hub, tokenizer=None)), want)


def test_diffusers_dit_and_vae(small: Any, edit: Any, want: np.ndarray, tmp_path: Path) -> None:
    dit, vae = small.diffusers_dit(tmp_path / "transformer"), small.diffusers_vae(tmp_path / "vae")
    assert np.array_equal(edit("--model", small.files.adapter, *parts(small, denoiser=dit, vae=vae)), want)


def test_kiwi_file_taken_apart(small: Any, edit: Any, want: np.ndarray, tmp_path: Path) -> None:
    """What `convert` makes of a training file, laid out for the native loaders."""
    file = small.training_file(tmp_path / "stage3.safetensors")
    models = tmp_path / "models"
    for folder in ("diffusion_models", "vae", "text_encoders", "model_patches"):
        (models / folder).mkdir(parents=True)
    convert(file, models / "diffusion_models" / "kiwi.safetensors", "original")
    beside = {"encoder": small.files.text_encoder, "vae": small.files.vae}  # neither is of a public size
    convert(file, models / "model_patches" / "kiwi.safetensors", "adapter", **beside)
    shutil.copy(small.files.vae, models / "vae")
    shutil.copy(small.files.text_encoder, models / "text_encoders")
    shutil.copy(small.files.tokenizer, models)
    assert verify(models).good
    assert np.array_equal(edit("--model", models), want)
    slim = convert(models / "diffusion_models" / "kiwi.safetensors", tmp_path / "fp8.safetensors", "fp8").path
    close = edit("--model", models, "--part", f"denoiser={slim}").astype(float)
    assert 0 < np.abs(close - want).mean() < 8, "fp8 is near, and not the same"


def test_kiwi_folder(small: Any, edit: Any, want: np.ndarray, tmp_path: Path) -> None:
    """Its pipeline ends at another noise level, so the picture is near and not the same."""
    folder = small.kiwi_folder(tmp_path / "kiwi-edit-5b")
    assert verify(folder).good
    assert np.abs(edit("--model", folder).astype(float) - want).mean() < 8


def test_kiwi_14b_layout(small: Any, edit: Any, want: np.ndarray, tmp_path: Path) -> None:
    """A LoRA of the DiT in the training file, merged on load or by `convert`: the same picture up to bf16."""
    file = small.training_file(tmp_path / "lora.safetensors", dit="lora")
    base = small.files.denoiser
    loaded = edit("--model", file, *parts(small, denoiser=base)).astype(float)
    merged = convert(base, tmp_path / "merged.safetensors", "merged", lora=file)
    assert "20 weights changed" in merged.notes[0]  # 2 blocks of 8 attention and 2 FFN matrices
    again = edit("--model", small.files.adapter, *parts(small, denoiser=merged.path)).astype(float)
    effect, difference = (np.abs(loaded - other).mean() for other in (want, again))
    assert effect > 0.5 and difference < effect / 4, "it does something, and both ways do the same"


def test_wrong_parts_are_one_line(small: Any, edit: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for option, words in (("vae", "no NAME=FILE"), ("oven=x", "no NAME=FILE"), ("vae=absent.safetensors", "no file")):
        with pytest.raises(AssertionError):
            edit("--model", small.root, "--part", option)
        assert words in capsys.readouterr().err
