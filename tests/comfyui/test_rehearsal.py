"""Rehearsal on a real host: one small model in the layouts that artists have, each sampled by the host.

The files lie in the host's model folders as an artist puts them there. All hold the same bf16 numbers, so graphs must
give the same picture whichever loader reads them; fp8 is near. tests/formats/test_rehearsal.py: the command line.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instructx_core.formats.convert import convert

NAME = "instructx_kiwi_small.safetensors"


def lay_out(small: Any, models: Path) -> None:
    """Everything of `small` into a models folder: parts, a Kiwi-Edit training file and folder, a slim DiT."""
    for folder in ("diffusion_models", "vae", "text_encoders", "model_patches"):
        (models / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(small.root / folder / NAME, models / folder)
    shutil.copy(small.files.tokenizer, models)
    small.training_file(models / "checkpoints" / "kiwi_stage3.safetensors")
    small.kiwi_folder(models / "diffusers" / "kiwi-edit-5b")
    convert(models / "diffusion_models" / NAME, models / "diffusion_models" / "slim.safetensors", "fp8")


def graph(loaders: dict[str, Any], model: list[Any], encoder: list[Any]) -> dict[str, Any]:
    """The edit of source.png with a reference, in two steps, in API format."""
    nodes = {
        **loaders,
        "source": ("LoadImage", {"image": "source.png"}),
        "reference": ("LoadImage", {"image": "reference.png"}),
        "vae": ("VAELoader", {"vae_name": NAME}),
        "queries": ("InstructXQueryEmbeddings", {
            "encoder": encoder, "instruction": "make it blue", "source": ["source", 0], "modality": "auto",
            "drop_instruction": False, "fps": 0.0, "reference_1": ["reference", 0]}),
        "connector": ("InstructXConnector", {"queries": ["queries", 0]}),
        "edit": ("InstructXSourceReference", {
            "model": model, "positive": ["connector", 0], "vae": ["vae", 0], "source": ["source", 0], "resize": "crop",
            "length": "pad", "reference_1": ["reference", 0]}),
        "sample": ("KSampler", {
            "model": ["edit", 0], "positive": ["edit", 1], "negative": ["edit", 2], "latent_image": ["edit", 3],
            "seed": 1, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}),
        "decode": ("VAEDecode", {"samples": ["sample", 0], "vae": ["vae", 0]}),
        "save": ("PreviewImage", {"images": ["decode", 0]}),
    }  # fmt: skip
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}


def native(denoiser: str = NAME, adapter: str = NAME) -> dict[str, Any]:
    loaders = {
        "unet": ("UNETLoader", {"unet_name": denoiser, "weight_dtype": "default"}),
        "encoder": ("InstructXLoadEncoder", {"encoder": NAME, "adapter": adapter, "dtype": "fp32", "device": "auto"}),
    }
    return graph(loaders, ["unet", 0], ["encoder", 0])


def checkpoint(name: str, encoder: str) -> dict[str, Any]:
    inputs = {"checkpoint": name, "encoder": encoder, "reference_position": "auto", "dtype": "fp32", "device": "auto"}
    return graph({"load": ("InstructXLoadCheckpoint", inputs)}, ["load", 0], ["load", 1])


@pytest.fixture(scope="module")
def rehearsal(boot: Any, load_helper: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A host with the models in its folders; run(graph) -> the picture."""
    models = load_helper("instructx_test_models", "formats/models.py")
    tiny = load_helper("instructx_test_tiny", "core/tiny.py")
    small = models.Small(tmp_path_factory.mktemp("small") / "model", tiny)
    return ready(boot(), small)


def ready(host: Any, small: Any) -> Any:
    """Files and inputs into a running host; a function from graph to picture."""
    lay_out(small, host.base / "models")
    rng = np.random.default_rng(0)
    for name, side in (("source", 64), ("reference", 48)):
        host.put_input(f"{name}.png", rng.integers(0, 256, (side, side, 3), np.uint8))

    def run(wanted: dict[str, Any]) -> np.ndarray:
        return host.pictures(host.run(wanted))[0]

    return run


def test_every_layout_gives_the_same_picture(rehearsal: Any) -> None:
    want = rehearsal(native())
    assert want.std() > 5
    assert np.array_equal(rehearsal(checkpoint("kiwi_stage3.safetensors", NAME)), want), "training file"
    folder = rehearsal(checkpoint("kiwi-edit-5b", "from the checkpoint")).astype(float)
    assert np.abs(folder - want).mean() < 1, "folder: its LoRA was merged in bf16"
    slim = rehearsal(native("slim.safetensors")).astype(float)
    assert 0 < np.abs(slim - want).mean() < 8, "fp8_scaled as `convert` writes it"
