"""A LoRA that `train lora` wrote, in ComfyUI's own loader: the picture of the same LoRA merged by `convert`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from taught import save_pairs

from instructx_core.cli import main
from instructx_core.weights import SHIPPED

pytestmark = pytest.mark.comfyui


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a few steps wrote, with second factors grown from next to nothing: wrong, and clearly another model."""
    folder = tmp_path_factory.mktemp("taught")
    pairs = save_pairs(folder / "pairs", 3)
    more = ["--instruction", "invert the colours", "--batch", "2", "--rank", "4", "--alpha", "8", "--rate", "1e-2"]
    where = ["--pairs", str(pairs), "--output", str(folder / "runs")]
    assert main(["train", "lora", *where, *more, "--steps", "4", "--every", "4", "--validation", "0.34"]) == 0
    path = folder / "runs" / "lora" / "lora.safetensors"
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}
    grown = {key: value * (0.25 / value.float().std()) for key, value in tensors.items() if ".lora_B." in key}
    assert grown
    save_file(tensors | grown, path, metadata)
    return path


def test_the_hosts_loader_gives_the_merged_model(host: Any, graphs: Any, taught: Path) -> None:
    folder = host.base / "models"
    for name in ("loras", "diffusion_models"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(taught, folder / "loras" / "taught.safetensors")
    (base,) = (SHIPPED / "diffusion_models").glob("*.safetensors")
    merged = folder / "diffusion_models" / "taught_merged.safetensors"
    assert main(["convert", str(base), str(merged), "--to", "merged", "--lora", str(taught)]) == 0
    (plain,) = graphs.pictures(host, graphs.edit())
    graph = graphs.between(
        graphs.edit(),
        "lora",
        "LoraLoaderModelOnly",
        ("sampler", "model"),
        "model",
        lora_name="taught.safetensors",
        strength_model=1.0,
    )
    (loaded,) = graphs.pictures(host, graph)
    graph = graphs.edit()
    graph["unet"]["inputs"]["unet_name"] = merged.name
    (want,) = graphs.pictures(host, graph)
    assert np.abs(loaded.astype(int) - plain).mean() > 3
    assert np.abs(loaded.astype(int) - want).mean() < 1, "merged in bf16, patched in the host's own way"
    assert "lora key not loaded" not in host.log()
