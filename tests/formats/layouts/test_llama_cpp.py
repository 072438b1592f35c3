"""Qwen2.5-VL in two GGUF files with llama.cpp's names, as its converter writes them: the encoder of the hub's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kiwi_files import adapter, config, qwen_state
from small import llama_cpp_names, llama_cpp_pair, save, write_gguf

from instructx_core.encoder.forward import PlainEncoder
from instructx_core.errors import InputError
from instructx_core.formats.layouts.encoder import read_encoder
from instructx_core.formats.layouts.files import find_files
from instructx_core.formats.layouts.llama_cpp import find_projector
from instructx_core.formats.layouts.modules import empty_parameters
from instructx_core.formats.layouts.qwen_config import infer_mllm
from instructx_core.formats.layouts.weight_file import OpenFiles, open_weights
from instructx_core.formats.telling.identify import identify
from instructx_core.formats.telling.verify import check_path

gguf = pytest.importorskip("gguf")
CONFIG = config()


def load(path: Path | list[Path], settings: Any = CONFIG) -> tuple[Any, Any]:
    with empty_parameters():
        module = PlainEncoder(settings)
    with open_weights(path) as file:
        return module, read_encoder(module, file, settings, adapter(settings), torch.float32)


def same(module: Any, want: Any) -> None:
    have, other = module.state_dict(), want.state_dict()
    assert have.keys() == other.keys()
    for name, value in other.items():
        assert torch.equal(have[name], value), name


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """With an lm_head, as models of other sizes have it, and the names of public files."""
    text = llama_cpp_pair(tmp_path, {**qwen_state(CONFIG), "lm_head.weight": torch.zeros(3, 32)})
    tower = text.with_name("mmproj-qwen.gguf")
    return (
        text.rename(tmp_path / "Qwen2.5-VL-3B-Instruct-F16.gguf"),
        tower.rename(tmp_path / "mmproj-Qwen2.5-VL-3B-Instruct-f16.gguf"),
    )


@pytest.mark.parametrize("given", ["the language model", "both"])
def test_the_same_encoder_as_from_the_hubs_file(tmp_path: Path, pair: tuple[Path, Path], given: str) -> None:
    module, report = load(list(pair) if given == "both" else pair[0])
    plain, _ = load(save(tmp_path / "plain.safetensors", qwen_state(CONFIG)))
    same(module, plain)
    assert report.ignored == ("lm_head.weight",) and set(report.files) == set(pair)


def test_a_tower_that_was_not_taken_apart(tmp_path: Path) -> None:
    path = llama_cpp_pair(tmp_path, qwen_state(CONFIG), split=False)
    plain, _ = load(save(tmp_path / "plain.safetensors", qwen_state(CONFIG)))
    same(load(path)[0], plain)


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_0"])
def test_quantised_files(tmp_path: Path, kind: str) -> None:
    """Against the package's own unpacking of the same blocks; the tower's q, k and v are quantised apart."""
    state = {
        name: value if value.shape[-1] % 32 == 0 or value.ndim != 2 else value[..., : value.shape[-1] // 32 * 32]
        for name, value in qwen_state(CONFIG).items()
    }
    assert all(value.shape == qwen_state(CONFIG)[name].shape for name, value in state.items()), "blocks of 32"
    path = llama_cpp_pair(tmp_path, state, kind)

    def unpacked(value: torch.Tensor) -> torch.Tensor:
        if value.ndim != 2:
            return value
        kept = gguf.GGMLQuantizationType[kind]
        blocks = gguf.quantize(np.ascontiguousarray(value.float().numpy()), kept)
        return torch.from_numpy(gguf.dequantize(blocks, kept).astype(np.float32).copy())

    module, report = load(path)
    plain, _ = load(save(tmp_path / "plain.safetensors", {name: unpacked(value) for name, value in state.items()}))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], value, rtol=1e-5, atol=1e-6, msg=name)
    assert kind in report.kind


def test_sizes_are_inferred(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with open_weights(save(tmp_path / "plain.safetensors", qwen_state(CONFIG))) as plain, open_weights(pair[0]) as ours:
        assert infer_mllm(ours) == infer_mllm(plain)


def test_a_tower_that_is_missing_or_in_doubt(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="is the vision tower alone; choose the language model"):
        load(pair[1])
    other = pair[1].with_name("mmproj-other-model.gguf")
    other.write_bytes(pair[1].read_bytes())
    assert find_projector(pair[0]) == pair[1], "the one that carries the name"
    pair[1].rename(other.with_name("mmproj-third.gguf"))
    with pytest.raises(InputError, match="several files beside it could be its vision tower"):
        load(pair[0])
    for file in tmp_path.glob("mmproj*"):
        file.unlink()
    with pytest.raises(InputError, match="put the mmproj file of the same model into its folder"):
        load(pair[0])


def test_a_torn_tower_is_refused(tmp_path: Path) -> None:
    path = llama_cpp_pair(tmp_path, qwen_state(CONFIG))
    _, tower = llama_cpp_names(qwen_state(CONFIG))
    del tower["v.blk.0.attn_k.weight"]
    write_gguf(tmp_path / "mmproj-qwen.gguf", {key: ("F32", value.float().numpy()) for key, value in tower.items()})
    with pytest.raises(InputError, match=r"lacks v\.blk\.0\.attn_k\.weight"):
        load(path)


def test_inspect_says_what_they_are(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    whole, tower = identify(pair[0]), identify(pair[1])
    assert whole.kind == "qwen2.5-vl" and ("layout", "names of llama.cpp") in whole.facts
    assert any("Load Encoder" in taker for taker in whole.taken_by)
    assert tower.kind == "qwen-vision" and "same folder" in tower.needs[0]
    with OpenFiles() as opened:
        assert [check_path(file, True, opened).state for file in pair] == ["ok", "ok"]
    pair[1].unlink()
    alone = identify(pair[0])
    assert alone.kind == "qwen-text" and "mmproj" in alone.title and not alone.taken_by


def test_a_model_folder_with_both_files_has_one_encoder(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    folder = tmp_path / "model"
    for sub in ("diffusion_models", "vae", "model_patches"):
        (folder / sub).mkdir(parents=True)
        save(folder / sub / "x.safetensors", {"a": torch.zeros(1)})
    (folder / "text_encoders").mkdir()
    for file in pair:
        file.rename(folder / "text_encoders" / file.name)
    (folder / "tokenizer.json").write_text("{}")
    assert find_files(folder).text_encoder == folder / "text_encoders" / pair[0].name
