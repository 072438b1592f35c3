"""Load Model on the host's classes: what it loads and offers; older graphs that name the shipped files elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

TINY = "instructx_tiny.safetensors"


@pytest.fixture
def empty(comfy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation without a single model."""
    import folder_paths

    for folder in ("diffusion_models", "vae", "text_encoders", "model_patches"):
        (tmp_path / folder).mkdir()
        monkeypatch.setitem(folder_paths.folder_names_and_paths, folder, ([str(tmp_path / folder)], {".safetensors"}))
    folder_paths.filename_list_cache.clear()
    return tmp_path


@pytest.fixture
def node(pack: Callable[[str], ModuleType], empty: Path) -> Any:
    return pack("nodes.load_model").InstructXLoadModel


def test_it_loads_what_the_hosts_loaders_load(node: Any, shipped: Path) -> None:
    from comfy import sd, utils

    model, vae = node.execute(TINY, TINY).args
    want = sd.load_diffusion_model(str(shipped / "diffusion_models" / TINY)).model.state_dict()
    have = model.model.state_dict()
    assert want.keys() == have.keys() and all(torch.equal(want[key], have[key]) for key in want)
    other = sd.VAE(sd=utils.load_torch_file(str(shipped / "vae" / TINY))).first_stage_model.state_dict()
    assert all(torch.equal(other[key], value) for key, value in vae.first_stage_model.state_dict().items())
    model, _ = node.execute(TINY, TINY, "fp8_e4m3fn").args
    assert model.model.diffusion_model.blocks[0].ffn[0].weight.dtype == torch.float8_e4m3fn


def test_the_hosts_lists_stay_empty(node: Any, pack: Callable[[str], ModuleType]) -> None:
    import folder_paths

    for folder in ("diffusion_models", "vae", "text_encoders", "model_patches"):
        assert folder_paths.get_filename_list(folder) == []
        assert pack("nodes.parts.host").model_files(folder) == [TINY]


def test_an_own_file_of_that_name_comes_first(node: Any, empty: Path, shipped: Path) -> None:
    shutil.copy(shipped / "vae" / TINY, empty / "vae" / TINY)
    paths = [entry[0] for entry in node.fingerprint_inputs(TINY, TINY)]
    assert paths == [str(shipped / "diffusion_models" / TINY), str(empty / "vae" / TINY)]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (("gone.safetensors", TINY), "no gone.safetensors in models/diffusion_models; put it there"),
        ((TINY, f"../vae/{TINY}"), "put it there"),
        ((TINY, TINY, "int3"), "weight_dtype is 'int3'; use default, fp8_e4m3fn"),
    ],
)
def test_refusals(node: Any, chosen: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        node.execute(*chosen)


def older_graph(unet: str = TINY, vae: str = TINY) -> dict[str, Any]:
    return {
        "1": {"class_type": "UNETLoader", "inputs": {"unet_name": unet, "weight_dtype": "fp8_e4m3fn"}},
        "2": {"class_type": "VAELoader", "inputs": {"vae_name": vae}},
        "3": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["2", 0]}},
        "5": None,
        "4": {
            "class_type": "KSampler",
            "inputs": {"model": ["1", 0], "seed": 2, "sigmas": [1.0, 0], "box": [[0, 1], 2]},
        },
    }


def test_older_graphs_get_load_model(pack: Callable[[str], ModuleType], empty: Path) -> None:
    change = pack("nodes.parts.shipped_names").with_own_loader
    graph = change({"prompt": older_graph(), "client_id": "x"})["prompt"]
    assert [graph[name]["class_type"] for name in "12"] == ["InstructXLoadModel"] * 2
    assert graph["1"]["inputs"] == {"diffusion_model": TINY, "vae": TINY, "weight_dtype": "fp8_e4m3fn"}
    assert graph["3"]["inputs"] == {"samples": ["4", 0], "vae": ["2", 1]}
    assert graph["4"]["inputs"] == {"model": ["1", 0], "seed": 2, "sigmas": [1.0, 0], "box": [[0, 1], 2]}


def test_other_graphs_stay(pack: Callable[[str], ModuleType], empty: Path, shipped: Path) -> None:
    import folder_paths

    change = pack("nodes.parts.shipped_names").with_own_loader
    assert change({"prompt": older_graph("a.safetensors", "b.safetensors")})["prompt"] == older_graph(
        "a.safetensors", "b.safetensors"
    )
    for body in ({}, {"prompt": None}, {"prompt": {"1": None, "2": {"class_type": "UNETLoader"}}}):
        assert change(dict(body)) == body
    for folder in ("diffusion_models", "vae"):
        shutil.copy(shipped / folder / TINY, empty / folder / TINY)
    folder_paths.filename_list_cache.clear()
    assert change({"prompt": older_graph()})["prompt"] == older_graph(), "the artist's own file is the host's matter"
