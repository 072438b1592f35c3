"""Rehearsal: one small model in every layout in which artists have the real one, through the command line.

All layouts hold the same bf16 numbers, so the pictures must be the same to the last bit. On a real host:
tests/comfyui/test_rehearsal.py.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small import PACKED, llama_cpp_pair, packed

from instructx_core.cli import main
from instructx_core.formats.convert import convert
from instructx_core.formats.forms.request import Options
from instructx_core.formats.telling.verify import verify


@pytest.fixture(scope="module")
def models(load_helper) -> ModuleType:
    return load_helper("instructx_test_models", "formats/models.py")


@pytest.fixture(scope="module")
def small(models: ModuleType, load_helper, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return models.Small(
        tmp_path_factory.mktemp("small") / "model", load_helper("instructx_test_tiny", "support/tiny.py")
    )


@pytest.fixture(scope="module")
def wide(models: ModuleType, load_helper, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """48 channels, the VAE of Wan2.2: the layout of TI2V-5B."""
    tiny = load_helper("instructx_test_tiny", "support/tiny.py")
    return models.Small(tmp_path_factory.mktemp("wide") / "model", tiny, models.small_kiwi(48))


@pytest.fixture(scope="module")
def edit(tmp_path_factory: pytest.TempPathFactory):
    """edit("--model", ...) -> the picture, uint8; in two steps, with a reference unless reference=False."""
    folder = tmp_path_factory.mktemp("edit")
    rng = np.random.default_rng(0)
    for name, side in (("source", 64), ("reference", 48)):
        Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(folder / f"{name}.png")

    def run(*model: object, reference: bool = True) -> np.ndarray:
        output = folder / "out.png"
        output.unlink(missing_ok=True)
        given = ["--reference", str(folder / "reference.png")] if reference else []
        code = main(
            [
                "edit",
                "--input",
                str(folder / "source.png"),
                *given,
                "--instruction",
                "make it blue",
                "--steps",
                "2",
                "--output",
                str(output),
                "--device",
                "cpu",
                "--dtype",
                "float32",
                *map(str, model),
            ]
        )
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


def test_dit_in_shards_and_wrapped(small: Any, edit: Any, want: np.ndarray, tmp_path: Path, models: ModuleType) -> None:
    wrapped = {f"model.diffusion_model.{key}": value for key, value in small.dit.items()}
    for dit in (
        small.diffusers_dit(tmp_path / "transformer", sharded=True),
        models.shards(tmp_path / "original", small.dit),
        models.put(tmp_path / "wrapped.safetensors", wrapped),
    ):
        assert np.array_equal(edit("--model", small.files.adapter, *parts(small, denoiser=dit)), want), dit.name


@pytest.mark.parametrize("kind", PACKED)
def test_quantised_dits(small: Any, edit: Any, want: np.ndarray, tmp_path: Path, models: ModuleType, kind: str) -> None:
    """The picture is that of an fp32 file with the same numbers, and near that of the bf16 file."""
    file, values = packed(tmp_path / "packed", kind, small.dit)
    plain = models.put(tmp_path / "plain.safetensors", values)
    got, same = (edit("--model", small.files.adapter, *parts(small, denoiser=dit)) for dit in (file, plain))
    assert np.array_equal(got, same)
    assert 0 < np.abs(got.astype(float) - want).mean() < 16


@pytest.mark.parametrize("kind", [kind for kind in PACKED if kind.startswith("fp8")])
def test_quantised_qwen(small: Any, edit: Any, want: np.ndarray, tmp_path: Path, models: ModuleType, kind: str) -> None:
    file, values = packed(tmp_path / "qwen", kind, small.qwen)
    plain = models.put(tmp_path / "plain.safetensors", values)
    given = ("--model", small.files.adapter, "--part", f"denoiser={small.files.denoiser}")
    got, same = (edit(*given, *parts(small, text_encoder=qwen)) for qwen in (file, plain))
    assert np.array_equal(got, same) and not np.array_equal(got, want)


@pytest.mark.parametrize("kind", ["BF16", "Q8_0"])
def test_qwen_as_llama_cpp_stores_it(small: Any, edit: Any, want: np.ndarray, tmp_path: Path, kind: str) -> None:
    """Language model and mmproj in one folder; the file's own numbers are bf16."""
    qwen = llama_cpp_pair(tmp_path / "qwen", small.qwen, kind)
    given = ("--model", small.files.adapter, "--part", f"denoiser={small.files.denoiser}")
    got = edit(*given, *parts(small, text_encoder=qwen))
    apart = np.abs(got.astype(float) - want).mean()
    assert apart == 0 if kind == "BF16" else 0 < apart < 16


def test_48_channels(wide: Any, edit: Any, tmp_path: Path) -> None:
    """Every layout of a 5B: ours, the training file, shards in diffusers' names, GGUF, the folder."""
    want = edit("--model", wide.root)
    assert want.std() > 5
    file = wide.training_file(tmp_path / "stage3.safetensors")
    assert np.array_equal(edit("--model", file, *parts(wide)), want)
    dit, vae = wide.diffusers_dit(tmp_path / "transformer", sharded=True), wide.diffusers_vae(tmp_path / "vae")
    assert np.array_equal(edit("--model", wide.files.adapter, *parts(wide, denoiser=dit, vae=vae)), want)
    gguf, _ = packed(tmp_path / "wan", "Q8_0", wide.dit)
    near = edit("--model", file, *parts(wide, denoiser=gguf)).astype(float)
    assert 0 < np.abs(near - want).mean() < 4
    folder = edit("--model", wide.kiwi_folder(tmp_path / "kiwi-edit-5b")).astype(float)
    assert 0 < np.abs(folder - want).mean() < 8, "its pipeline ends at another noise level"


def test_training_files_of_stage_1_and_2(small: Any, edit: Any, tmp_path: Path, capsys, models: ModuleType) -> None:
    """Stage 2 edits as stage 3 does without a reference; stage 1 as the same model with a source embedder of zeros."""
    want = edit("--model", small.root, reference=False)
    second = small.training_file(tmp_path / "stage2.safetensors", stage=2)
    assert np.array_equal(edit("--model", second, *parts(small), reference=False), want)
    with pytest.raises(AssertionError):
        edit("--model", second, *parts(small))
    assert "reference" in capsys.readouterr().err
    first = small.training_file(tmp_path / "stage1.safetensors", stage=1, dit="none")
    base = models.put(tmp_path / "wan.safetensors", small.dit)
    given = parts(small, denoiser=base)  # ours would say that it belongs to a model with references
    got = edit("--model", first, *given, reference=False)
    zeros = {key: value * (not key.startswith("source_embedder")) for key, value in small.adapter.items()}
    blind = small.put_adapter(tmp_path / "blind.safetensors", zeros)
    assert np.array_equal(edit("--model", blind, *given, reference=False), got)
    assert not np.array_equal(got, want)


def test_kiwi_file_taken_apart(small: Any, edit: Any, want: np.ndarray, tmp_path: Path) -> None:
    """What `convert` makes of a training file, laid out for the native loaders."""
    file = small.training_file(tmp_path / "stage3.safetensors")
    models = tmp_path / "models"
    for folder in ("diffusion_models", "vae", "text_encoders", "model_patches"):
        (models / folder).mkdir(parents=True)
    convert(file, models / "diffusion_models" / "kiwi.safetensors", "original")
    beside = Options(encoder=small.files.text_encoder, vae=small.files.vae)  # neither is of a public size
    convert(file, models / "model_patches" / "kiwi.safetensors", "adapter", beside)
    shutil.copy(small.files.vae, models / "vae")
    shutil.copy(small.files.text_encoder, models / "text_encoders")
    shutil.copy(small.files.tokenizer, models)
    assert verify(models).good
    assert np.array_equal(edit("--model", models), want)
    slim = convert(models / "diffusion_models" / "kiwi.safetensors", tmp_path / "fp8.safetensors", "fp8").path
    close = edit("--model", models, "--part", f"denoiser={slim}").astype(float)
    assert 0 < np.abs(close - want).mean() < 8, "fp8 is near, and not the same"


def test_kiwi_folders(small: Any, edit: Any, want: np.ndarray, tmp_path: Path) -> None:
    """The three that are public. Their pipeline ends at another noise level: the picture is near and not the same."""
    folder = small.kiwi_folder(tmp_path / "kiwi-edit-5b-instruct-reference-diffusers")
    assert verify(folder).good
    picture = edit("--model", folder).astype(float)
    assert np.abs(picture - want).mean() < 8
    first = small.kiwi_folder(tmp_path / "kiwi-edit-5b-reference-only-diffusers", first=True)
    moved = edit("--model", first).astype(float)
    assert verify(first).good and 0 < np.abs(moved - picture).mean() < 64, "references stand elsewhere"
    alone = small.kiwi_folder(tmp_path / "kiwi-edit-5b-instruct-only-diffusers", stage=2)
    assert verify(alone).good
    assert np.array_equal(edit("--model", alone, reference=False), edit("--model", folder, reference=False))


def test_lora_in_three_spellings(small: Any, edit: Any, want: np.ndarray, tmp_path: Path, models: ModuleType) -> None:
    pictures = []
    for spelling in models.LORAS:
        state = models.spelled(models.dit_lora(small.dit), spelling)
        lora = models.put(tmp_path / f"{spelling}.safetensors", state)
        pictures.append(edit("--model", small.root, "--lora", f"{lora}:0.5"))
    assert all(np.array_equal(picture, pictures[0]) for picture in pictures)
    assert np.abs(pictures[0].astype(float) - want).mean() > 0.5


def test_kiwi_14b_layout(small: Any, edit: Any, want: np.ndarray, tmp_path: Path) -> None:
    """A LoRA of the DiT in the training file, merged on load or by `convert`: the same picture up to bf16."""
    file = small.training_file(tmp_path / "lora.safetensors", dit="lora")
    base = small.files.denoiser
    loaded = edit("--model", file, *parts(small, denoiser=base)).astype(float)
    merged = convert(base, tmp_path / "merged.safetensors", "merged", Options(lora=file))
    assert "20 weights changed" in merged.notes[0]  # 2 blocks of 8 attention and 2 FFN matrices
    again = edit("--model", small.files.adapter, *parts(small, denoiser=merged.path)).astype(float)
    effect, difference = (np.abs(loaded - other).mean() for other in (want, again))
    assert effect > 0.5 and difference < effect / 4, "it does something, and both ways do the same"


def test_wrong_parts_are_one_line(small: Any, edit: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for option, words in (("vae", "no NAME=FILE"), ("oven=x", "no NAME=FILE"), ("vae=absent.safetensors", "no file")):
        with pytest.raises(AssertionError):
            edit("--model", small.root, "--part", option)
        assert words in capsys.readouterr().err
