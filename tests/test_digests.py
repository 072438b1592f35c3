"""Digests: equal for equal content wherever it lies, another one for any change of a weight or a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from instructx_core import digests
from instructx_core.digests import file_digest, model_digest, model_files_digest, picture_digest, weights_digest
from instructx_core.errors import InputError


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int64, torch.bool])
@pytest.mark.parametrize("count", [1, 63, 64, 1000])
def test_any_changed_value_changes_the_digest(dtype: torch.dtype, count: int) -> None:
    values = (torch.arange(count) % 2).to(dtype)
    before = weights_digest({"w": values})
    assert before == weights_digest({"w": values.clone()})
    for place in {0, count // 2, count - 1}:
        changed = values.clone()
        changed[place] = 1 - int(values[place])
        assert weights_digest({"w": changed}) != before
    assert weights_digest({"v": values}) != before and weights_digest({"w": values[None]}) != before
    assert weights_digest({"w": values}, {}) != before


def test_order_threads_and_layout_change_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(300, 257, generator=generator)
    state = {"a": table, "b": torch.tensor(2.0), "c": torch.empty(0)}
    threads, expected = torch.get_num_threads(), weights_digest(state)
    try:
        torch.set_num_threads(3)
        assert weights_digest(dict(reversed(state.items()))) == expected
    finally:
        torch.set_num_threads(threads)
    assert weights_digest({**state, "a": table.t().contiguous().t()}) == expected, "strides are no content"
    assert weights_digest({**state, "a": table.flip(0)}) != expected, "what moves far is another weight"


def test_meta_weights_count_by_shape() -> None:
    shape = weights_digest({"w": torch.empty(3, 4, device="meta")})
    assert shape == weights_digest({"w": torch.empty(3, 4, device="meta")})
    assert shape != weights_digest({"w": torch.empty(4, 3, device="meta")})


def test_a_model_is_its_settings_and_weights(random_pipe: Any) -> None:
    modules = (random_pipe.vae, random_pipe.encoder)
    before = model_digest("settings", *modules)
    assert model_digest("others", *modules) != before != model_digest("settings", *reversed(modules))
    weight = next(random_pipe.encoder.connector.parameters())
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.view(-1)[-1] += 1e-3
        assert model_digest("settings", *modules) != before
    finally:
        with torch.no_grad():
            weight.copy_(kept)
    assert model_digest("settings", *modules) == before


def test_files_count_by_content_not_by_name(tmp_path: Path) -> None:
    one, two = tmp_path / "a.bin", tmp_path / "b.bin"
    one.write_bytes(b"abc")
    two.write_bytes(b"abc")
    assert file_digest(one) == file_digest(two) and model_files_digest([one]) == model_files_digest([two])
    assert model_files_digest([one], "float32") != model_files_digest([one])
    assert model_files_digest([one, two]) != model_files_digest([one])
    with pytest.raises(InputError, match=r"gone\.bin: no such file or directory; check the path"):
        file_digest(tmp_path / "gone.bin")


def test_a_model_is_every_file_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_WHOLE", 8)
    monkeypatch.setattr(digests, "_BLOCK", 4)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "index.json").write_text("{}")
    (folder / "shard.safetensors").write_bytes(b"0123456789")
    before = model_files_digest([folder])
    assert model_files_digest([folder / "index.json"]) == before, "an index stands for its folder"
    (folder / "shard.safetensors").write_bytes(b"0123456780")
    assert model_files_digest([folder]) != before, "of a large file the end is read"
    (folder / "shard.safetensors").rename(folder / "other.safetensors")
    assert model_files_digest([tmp_path / "absent"]) == model_files_digest([tmp_path / "gone"])


def test_pictures() -> None:
    picture = np.zeros((2, 3, 3), np.uint8)
    assert picture_digest(picture) == picture_digest(picture[:, ::-1]) != picture_digest(picture.reshape(3, 2, 3))
