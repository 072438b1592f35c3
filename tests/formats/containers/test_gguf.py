"""GGUF: every block type against the unpacking of diffusers and ComfyUI-GGUF, changed shapes, and bad headers."""

from __future__ import annotations

import importlib.util
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import write_gguf

from instructx_core.errors import InputError
from instructx_core.formats.containers import gguf_file
from instructx_core.formats.containers.opening import open_source
from instructx_core.formats.containers.quantisation import numbers
from instructx_core.formats.containers.quantised import dequantised

gguf = pytest.importorskip("gguf")
Type = gguf.GGMLQuantizationType
COMMON = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS")
RARE = ("IQ2_XXS", "IQ2_S", "IQ3_S", "IQ1_M", "TQ1_0")


def blocks(kind: str, rows: int, columns: int) -> np.ndarray:
    """Random bytes of a block type whose fp16 scales are finite and below 2."""
    block, size = gguf.GGML_QUANT_SIZES[Type[kind]]
    random = np.random.default_rng(len(kind) + rows)
    return random.integers(0, 0x40, (rows, columns // block * size), dtype=np.uint8)


def write(path: Path, tensors: dict, shapes: dict | None = None) -> Path:
    """With a long array, which the reader skips, and the shapes that a converter changed."""
    arrays = {f"comfy.gguf.orig_shape.{name}": shape for name, shape in (shapes or {}).items()}
    return write_gguf(path, tensors, {"long": range(100), **arrays})


def unpacking(owner: str) -> Any:
    """A module with `dequantize_functions`."""
    if owner == "diffusers":
        return pytest.importorskip("diffusers.quantizers.gguf.utils")
    folder = os.environ.get("COMFYUI_GGUF_PATH")
    if not folder:
        pytest.skip("COMFYUI_GGUF_PATH is not set: needs a checkout of ComfyUI-GGUF")
    spec = importlib.util.spec_from_file_location("comfyui_gguf_dequant", Path(folder) / "dequant.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("owner", ["diffusers", "ComfyUI-GGUF"])
def test_every_common_type_unpacks_as_elsewhere(tmp_path, monkeypatch, owner):
    utils = unpacking(owner)
    monkeypatch.setattr(gguf_file, "_CHUNK", 1024)  # several chunks a tensor
    tensors = {kind: (kind, blocks(kind, 5, 1024)) for kind in COMMON}
    with dequantised(open_source(write(tmp_path / "x.gguf", tensors))) as source:
        assert source.keys() == list(COMMON) and source.metadata["general.architecture"] == "wan"
        assert "long" not in source.metadata and source.dtype("Q4_K") == "F32"
        for kind, (_, raw) in tensors.items():
            have = source.get(kind)
            block, size = gguf.GGML_QUANT_SIZES[Type[kind]]
            flat = torch.from_numpy(raw).reshape(-1, size)
            want = utils.dequantize_functions[Type[kind]](flat, block, size, torch.float32).reshape(5, 1024)
            assert have.shape == (5, 1024) and have.dtype == torch.float32
            torch.testing.assert_close(have, want, rtol=1e-6, atol=1e-7, msg=kind)
            assert torch.equal(source.get(kind, dtype=torch.bfloat16), have.bfloat16())


def test_rare_types_unpack_as_in_gguf(tmp_path):
    tensors = {kind: (kind, blocks(kind, 3, 512)) for kind in RARE}
    with dequantised(open_source(write(tmp_path / "x.gguf", tensors))) as source:
        for kind, (_, raw) in tensors.items():
            assert np.array_equal(source.get(kind).numpy(), gguf.quants.dequantize(raw, Type[kind])), kind


def test_plain_types_and_shapes_that_the_converter_changed(tmp_path):
    generator = np.random.default_rng(0)
    conv = generator.standard_normal((8, 4, 1, 2, 2), dtype=np.float32)
    weight = generator.standard_normal((6, 64), dtype=np.float32)
    q8 = gguf.quants.quantize(weight.reshape(-1, 32), Type.Q8_0)
    tensors = {
        "conv": ("F16", conv.astype(np.float16)),
        "bias": ("F32", weight[0]),
        "bf16": ("BF16", gguf.quants.quantize(weight, Type.BF16)),
        "reshaped": ("Q8_0", q8),
    }
    path = write(tmp_path / "x.gguf", tensors, {"reshaped": (3, 2, 64)})
    with open_source(path) as raw:
        assert str(numbers(raw)).startswith("GGUF (") and raw.dtype("reshaped") == "Q8_0"
        source = dequantised(raw)
        assert source.dtype("conv") == "F16" and np.array_equal(source.get("conv").numpy(), conv.astype(np.float16))
        assert np.array_equal(source.get("bias").numpy(), weight[0])
        assert torch.equal(source.get("bf16"), torch.from_numpy(weight).bfloat16())
        have = source.get("reshaped")
        assert source.shape("reshaped") == (3, 2, 64) == tuple(have.shape)
        assert (have.flatten() - torch.from_numpy(weight).flatten()).abs().max() < 0.02


def test_the_package_is_optional_and_named(tmp_path, monkeypatch):
    path = write(tmp_path / "x.gguf", {"a": ("F32", np.ones(4, np.float32))})
    monkeypatch.setitem(__import__("sys").modules, "gguf", None)
    with pytest.raises(InputError, match="pip install gguf"):
        open_source(path)


def header(tensors: int = 0, pairs: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs)


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def tensor(name: bytes, dims: tuple, kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"GGUF", "does not fit"),
        (header(version=1), "version 1"),
        (header(version=50331648), "version 50331648"),
        (header(tensors=1 << 60), "does not fit"),
        (header(pairs=1 << 60), "does not fit"),
        (header(pairs=1) + text(b"k") + struct.pack("<IIQ", 9, 4, 1 << 60), "does not fit"),
        (header(pairs=1) + text(b"k") + struct.pack("<IIQ", 9, 8, 1 << 60), "does not fit"),
        (header(pairs=1) + text(b"k") + struct.pack("<IIQ", 9, 9, 1), "unknown type 9"),
        (header(pairs=1) + text(b"k") + struct.pack("<I", 99), "unknown type 99"),
        (header(pairs=1) + text(b"\xff\xff") + struct.pack("<IB", 0, 1), "UTF-8"),
        (header(pairs=1) + text(b"general.alignment") + struct.pack("<II", 4, 3), "alignment 3"),
        (header(tensors=1) + tensor(b"a", (8,) * 9, 0, 0), "9 dimensions"),
        (header(tensors=1) + tensor(b"a", (8,), 999, 0), "unknown to this gguf"),
        (header(tensors=1) + tensor(b"a", (8,), 8, 0), "no multiple of 32"),
        (header(tensors=1) + tensor(b"a", (1 << 62, 1 << 62), 0, 0), "incomplete"),
        (header(tensors=1) + tensor(b"a", (8,), 0, 1 << 63), "incomplete"),
        (header(tensors=2) + tensor(b"a", (0,), 0, 0) * 2, "twice"),
    ],
)
def test_a_bad_header_is_one_clear_line(tmp_path, content, says):
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(InputError, match=says) as error:
        open_source(tmp_path / "x.gguf")
    assert "\n" not in str(error.value)


def test_a_shape_that_does_not_fit_is_refused(tmp_path):
    path = write(tmp_path / "x.gguf", {"a": ("F32", np.ones(4, np.float32))}, {"a": (3, 2)})
    with pytest.raises(InputError, match=r"a is \(4,\), but was \[3, 2\]"):
        open_source(path)
