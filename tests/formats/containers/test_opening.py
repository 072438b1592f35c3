"""Reading tensors from disk: what a good file gives, and one clean line for every kind of bad one."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from instructx_core.errors import InputError
from instructx_core.formats.containers.opening import open_source, open_sources
from instructx_core.formats.containers.tensor_source import TORCH_DTYPES, FileSource


def write(path: Path, header: dict | bytes, data: bytes = b"") -> Path:
    """A safetensors file of any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(dtype: str, shape: list, begin: int, end: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


GOOD = {"a": entry("F32", [2], 0, 8)}


def test_every_type_comes_back_as_it_was_written(tmp_path):
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.randint(0, 2, (3, 5), generator=generator).to(dtype) for name, dtype in TORCH_DTYPES.items()}
    tensors |= {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 4)}
    save_file(tensors, str(tmp_path / "x.safetensors"), metadata={"who": "me"})
    with open_source(tmp_path / "x.safetensors") as source:
        assert source.metadata["who"] == "me" and sorted(source.keys()) == sorted(tensors)
        for name, want in tensors.items():
            have = source.get(name)
            assert have.dtype == want.dtype and source.shape(name) == tuple(want.shape), name
            assert torch.equal(have.float(), want.float()), name
            assert have.numel() == 0 or have.data_ptr() % 64 == 0  # memory of its own, at an even address
        assert source.dtype("F8_E4M3") == "F8_E4M3" and source.get("I8", dtype=torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("header", "data", "says"),
    [
        (b"{", b"", "no JSON"),
        (b"[]", b"", "no table"),
        (b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{}}', b"1", "a appears twice"),
        (b'{"a":' + b"[" * 100_000, b"", "no JSON"),
        (b'{"a":{"dtype":"U8","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,1]}}', b"1", "no JSON"),
        ({"a": 3}, b"", "a is no table"),
        ({"a": entry("F32", [3], 0, 8)}, b"x" * 8, "another size than its shape"),
        ({"a": entry("F32", [1 << 62, 1 << 62], 0, 8)}, b"x" * 8, "another size than its shape"),
        ({"a": entry("F32", [-2], 0, 8)}, b"x" * 8, "no valid shape"),
        ({"a": entry("F32", [True, 2], 0, 8)}, b"x" * 8, "no valid shape"),
        ({"a": entry("F33", [2], 0, 8)}, b"x" * 8, "unknown type"),
        ({"a": entry("F32", [2], 8, 0)}, b"x" * 8, "ends after the end"),
        (GOOD, b"x" * 7, "incomplete"),
        (GOOD, b"x" * 9, "belong to no tensor"),
        (GOOD | {"b": entry("F32", [1], 4, 8)}, b"x" * 8, "starts at 4"),
        ({"b": entry("F32", [1], 4, 8)}, b"x" * 8, "starts at 4, not 0"),
        (GOOD | {"__metadata__": {"k": 3}}, b"x" * 8, "metadata"),
    ],
)
def test_a_bad_header_is_one_clear_line(tmp_path, header, data, says):
    path = write(tmp_path / "x.safetensors", header, data)
    with pytest.raises(InputError, match=says) as error:
        open_source(path)
    assert "\n" not in str(error.value) and "x.safetensors" in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "damaged"),
        (b"\xff" * 64, "does not fit"),
        (b"PK\x03\x04" + b"0" * 64, "pickle or zip"),
        (b"\x80\x02}q\x00." + b"0" * 64, "pickle or zip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
    ],
)
def test_what_is_no_safetensors_file_says_what_it_is(tmp_path, content, says):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=says):
        open_source(tmp_path / "x.safetensors")


def test_a_sparse_file_of_4_gb_costs_nothing(tmp_path):
    path = write(tmp_path / "x.safetensors", GOOD, b"x" * 8)
    os.truncate(path, 4 << 30)
    with pytest.raises(InputError, match="belong to no tensor"):
        open_source(path)


def test_a_file_cut_after_opening_is_reported(tmp_path):
    path = write(tmp_path / "x.safetensors", GOOD, b"x" * 8)
    with open_source(path) as source:
        os.truncate(path, path.stat().st_size - 2)
        with pytest.raises(InputError, match="cut short"):
            source.get("a")


def test_pickles_pipes_and_links_in_a_circle_are_refused(tmp_path):
    (tmp_path / "x.ckpt").write_bytes(b"1")
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "a.safetensors").symlink_to("b.safetensors")
    (tmp_path / "b.safetensors").symlink_to("a.safetensors")
    for name, says in (("x.ckpt", "pickle"), ("pipe.safetensors", "no file"), ("a.safetensors", "no file")):
        with pytest.raises(InputError, match=says):
            open_source(tmp_path / name)


# --- folders -------------------------------------------------------------------------------------------------------


def shards(folder: Path, weight_map: object) -> Path:
    for name in ("m-1.safetensors", "m-2.safetensors"):
        save_file({name[2]: torch.full((2,), float(name[2]))}, str(folder / name))
    path = folder / "m.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    return path


def test_a_folder_is_its_index_or_its_only_file(tmp_path):
    path = shards(tmp_path, {"1": "m-1.safetensors", "2": "m-2.safetensors"})
    for given in (path, tmp_path):
        with open_source(given) as source:
            assert sorted(source.keys()) == ["1", "2"] and source.get("2").tolist() == [2.0, 2.0]
            assert [file.name for file in source.files] == ["m-1.safetensors", "m-2.safetensors"]
    path.unlink()
    with pytest.raises(InputError, match="several models"):
        open_source(tmp_path)
    (tmp_path / "m-1.safetensors").unlink()
    with open_source(tmp_path) as source:
        assert source.keys() == ["2"]
    (tmp_path / "m-2.safetensors").unlink()
    with pytest.raises(InputError, match=r"holds no \.safetensors"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("weight_map", "says"),
    [
        ({"1": "m-1.safetensors", "2": "m-3.safetensors"}, "1 of 2 shards .* are missing"),
        ({"1": "../m-1.safetensors"}, "outside its folder"),
        ({"1": "/etc/passwd"}, "outside its folder"),
        ({"1": ".."}, "outside its folder"),
        ({"1": "m.safetensors.index.json"}, "safetensors version"),
        ({"1": "m-1.safetensors", "9": "m-2.safetensors"}, "no shard holds"),
        ({}, "no weight_map"),
        ([1], "no weight_map"),
        ({"1": 3}, "no weight_map"),
    ],
)
def test_an_index_that_lies_is_refused(tmp_path, weight_map, says):
    with pytest.raises(InputError, match=says):
        open_source(shards(tmp_path, weight_map))


def test_files_that_overlap_are_not_one_model(tmp_path):
    for name in ("a", "b"):
        save_file({"w": torch.zeros(1)}, str(tmp_path / f"{name}.safetensors"))
    with pytest.raises(InputError, match="both hold w"):
        open_sources([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])


@pytest.mark.parametrize("sharded", [False, True])
def test_rows_are_read_and_no_others(sharded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of a sharded run reads its part of a file, not the whole."""
    tensors = {f"w{n}": torch.arange(n, n + 40, dtype=torch.float32).reshape(8, 5).bfloat16() for n in range(2)}
    save_file(tensors, tmp_path / "model.safetensors")
    path = tmp_path / "model.safetensors"
    if sharded:
        path.unlink()
        for name, tensor in tensors.items():
            save_file({name: tensor}, tmp_path / f"{name}.safetensors")
        places = {name: f"{name}.safetensors" for name in tensors}
        path = tmp_path / "model.safetensors.index.json"
        path.write_text(json.dumps({"weight_map": places}))
    read, original = [], FileSource._bytes
    monkeypatch.setattr(FileSource, "_bytes", lambda self, key, *at: read.append(at[1]) or original(self, key, *at))
    with open_source(path) as source:
        rows = source.rows("w1", 2, 5, torch.float32)
        assert rows.equal(tensors["w1"][2:5].float()) and rows.dtype == torch.float32 and read == [3 * 5 * 2]
        assert source.rows("w0", 8, 8).shape == (0, 5)
