"""Our own adapter file, base Wan and Qwen files with it, and finding the parts of a model."""

from __future__ import annotations

import dataclasses
import logging

import pytest
import torch
from kiwi_files import adapter, config, dit_state, folder, pipe, qwen_folder, training_file, vae_state
from safetensors import safe_open
from small import packed, save
from sparse import sparse_file
from tiny import clip

from instructx_core.config import LORA_TARGETS, LoraConfig
from instructx_core.errors import InputError
from instructx_core.formats.layouts.adapter import Adapter, load_adapter
from instructx_core.formats.layouts.files import find_files
from instructx_core.formats.layouts.report import LoadReport
from instructx_core.weights import load_pipeline

CONFIG = config()


def edit(made):
    made.set_progress_bar_config(disable=True)
    return made(
        clip(),
        "make it blue",
        clip(1, 40, 20, seed=2)[0],
        num_inference_steps=2,
        output_type="latent",
        generator=torch.Generator().manual_seed(3),
    ).frames


def own_file(path, settings=CONFIG):
    made = Adapter(path, settings, adapter(settings), LoadReport(files=(path,), kind="made here"))
    made.save(path, torch.float32)
    return path


@pytest.fixture
def base(tmp_path):
    """Wan, its VAE and Qwen as their authors publish them: no config of ours in them."""
    return {
        "denoiser": save(tmp_path / "wan2.1_t2v.safetensors", dit_state(CONFIG)),
        "vae": save(tmp_path / "wan_2.1_vae.safetensors", vae_state(CONFIG)),
        "text_encoder": qwen_folder(tmp_path / "qwen", CONFIG),
    }


def test_base_files_with_our_adapter(tmp_path, base, caplog) -> None:
    file = own_file(tmp_path / "adapter.safetensors")
    with caplog.at_level(logging.INFO, "instructx"):
        loaded = load_pipeline(adapter=file, **base)
    want = edit(pipe(CONFIG))
    assert float((edit(loaded) - want).abs().max() / want.abs().max()) < 1e-5
    assert loaded.instructx_config == CONFIG
    assert [type(report) for report in loaded.load_reports] == [LoadReport] * 4
    assert all(str(report) in caplog.text for report in loaded.load_reports)


@pytest.mark.parametrize(
    "settings",
    [
        config(LoraConfig(rank=3, alpha=6, targets=LORA_TARGETS, scope="mllm"), source_scale="none"),
        config(source_embedder="tied", source_scale="none", reference_embedder="tied", reference_position="first"),
        config(context="text"),
    ],
    ids=["LoRA everywhere", "the paper's embedders", "text"],
)
def test_every_switch_comes_back_from_the_metadata(tmp_path, settings) -> None:
    file = own_file(tmp_path / "adapter.safetensors", settings)
    made = load_adapter(file)
    assert made.config == settings
    assert {k: v.tolist() for k, v in made.tensors.items()} == {k: v.tolist() for k, v in adapter(settings).items()}
    assert set(made.report.consumed) == set(adapter(settings))
    moved = load_adapter(file, reference_position="first").config
    first = dataclasses.replace(settings.denoiser, reference_position="first")
    assert moved == dataclasses.replace(settings, denoiser=first)


def test_a_training_file_becomes_an_adapter_of_ours(tmp_path, base) -> None:
    """What `instructx convert --to adapter` writes."""
    training = training_file(tmp_path / "stage3.safetensors", CONFIG)
    made = load_adapter(training, text_encoder=base["text_encoder"], vae=base["vae"])
    made.save(tmp_path / "adapter.safetensors", torch.float32)
    again = load_adapter(tmp_path / "adapter.safetensors")
    assert again.config == made.config and again.tensors.keys() == made.tensors.keys()
    with safe_open(str(tmp_path / "adapter.safetensors"), "pt") as file:
        assert not [key for key in file.keys() if key.startswith(("dit.", "blocks."))]
    loaded = load_pipeline(adapter=tmp_path / "adapter.safetensors", **base)
    assert torch.equal(
        edit(loaded), edit(load_pipeline(training, **{k: v for k, v in base.items() if k != "denoiser"}))
    )


def test_what_is_missing_is_named(tmp_path, base) -> None:
    file = own_file(tmp_path / "adapter.safetensors")
    for part in base:
        given = {name: path for name, path in base.items() if name != part}
        with pytest.raises(InputError, match=f"no {part} was given; give {part}="):
            find_files(file, **given)
    (base["text_encoder"] / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="no tokenizer was given"):
        find_files(file, **base)
    with pytest.raises(InputError, match="unet is no part of a model"):
        find_files(file, unet="x")
    with pytest.raises(InputError, match="no folder"):
        find_files(tmp_path / "nothing")
    with pytest.raises(InputError, match="carries no InstructX config"):
        load_adapter(base["denoiser"])


def test_parts_of_a_folder_can_be_replaced(tmp_path, base) -> None:
    root = folder(tmp_path / "kiwi", CONFIG)
    files = find_files(root, vae=base["vae"])
    assert files.vae == base["vae"] and files.adapter == root
    assert files.denoiser == root / "transformer" and files.tokenizer == root / "processor"
    loaded = load_pipeline(root, vae=base["vae"])
    assert torch.equal(edit(loaded), edit(load_pipeline(root)))


@pytest.mark.parametrize("name", ["my edits, epoch 3", "wan2.1_14b_832x480_81f", "tiny"])
@pytest.mark.parametrize(
    ("size", "usual"), [("5B", (1280, 704, 121, 24.0)), ("14B", (832, 480, 81, 16.0))], ids=["5B", "14B"]
)
def test_what_a_kiwi_file_is_decides_at_which_size_it_is_run(tmp_path, load_helper, name, size, usual) -> None:
    """Names and shapes of the public files, under any name."""
    real = load_helper("instructx_test_real", "formats/real.py")
    entries = {key: value for key, value in real.kiwi_training(2, size).items() if "layers." not in key}
    made = load_adapter(sparse_file(tmp_path / f"{name}.safetensors", entries)).config
    sampling = made.sampling
    assert (sampling.width, sampling.height, sampling.frames, sampling.fps) == usual
    assert made.name == name and made.trained_on == ""


@pytest.mark.parametrize("kind", ["fp8_scaled old", "int8"])
def test_a_kiwi_adapter_on_a_quantised_dit(tmp_path, base, kind) -> None:
    """Its sizes come from the DiT without the scales that stand beside its weights."""
    training = training_file(tmp_path / "stage3.safetensors", CONFIG, dit=False)
    dit, _ = packed(tmp_path / "packed", kind, dit_state(CONFIG))
    loaded = load_pipeline(training, **{**base, "denoiser": dit})
    assert dataclasses.replace(loaded.instructx_config, name=CONFIG.name) == CONFIG
