"""Quantised safetensors -> plain tensors, and a refusal by name for what cannot be read."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from small import PACKED, packed

from instructx_core.errors import InputError
from instructx_core.formats.containers.opening import open_source
from instructx_core.formats.containers.quantisation import numbers
from instructx_core.formats.containers.quantised import dequantised
from instructx_core.formats.layouts.weight_file import OpenFiles
from instructx_core.formats.telling.identify import identify

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2


def note(**conf) -> torch.Tensor:
    return torch.tensor(list(json.dumps(conf).encode()), dtype=torch.uint8)


@pytest.fixture
def layer():
    """A weight, its fp8 form and the scale: weight = stored * scale."""
    weight = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    scale = weight.abs().max() / torch.finfo(E4M3).max
    return (weight / scale).to(E4M3), scale


def read(path, tensors, metadata=None):
    save_file({key: value.clone() for key, value in tensors.items()}, str(path), metadata=metadata)
    with open_source(path) as source:  # its own block: a refusal leaves it to whoever opened it
        plain = dequantised(source)
        return {key: plain.get(key) for key in plain.keys()}


def test_a_plain_file_comes_back_as_it_is(tmp_path):
    save_file({"w": torch.ones(2, dtype=torch.bfloat16)}, str(tmp_path / "x.safetensors"))
    with open_source(tmp_path / "x.safetensors") as source:
        assert dequantised(source) is source and str(numbers(source)) == "BF16"


def test_every_spelling_of_scaled_fp8_gives_the_same_weight(tmp_path, layer):
    stored, scale = layer
    want, path = stored.float() * scale, tmp_path / "x.safetensors"
    bias = {"p.l.bias": torch.ones(6, dtype=torch.float16)}
    old = {"p.l.weight": stored, "p.l.scale_weight": scale, "p.scaled_fp8": torch.empty(0, dtype=E4M3)}
    new = {"p.l.weight": stored, "p.l.weight_scale": scale.reshape(1)}
    spellings = [
        (old | {"p.l.scale_input": torch.tensor(1.0)}, None),
        (new | {"p.l.comfy_quant": note(format="float8_e4m3fn"), "p.l.input_scale": torch.tensor(0.5)}, None),
        (new, {"_quantization_metadata": json.dumps({"layers": {"p.l": {"format": "float8_e4m3fn"}}})}),
        (new, None),
    ]
    for tensors, metadata in spellings:
        have = read(path, tensors | bias, metadata)
        assert sorted(have) == ["p.l.bias", "p.l.weight"] and have["p.l.bias"].dtype == torch.float16
        assert have["p.l.weight"].dtype == torch.float32 and torch.equal(have["p.l.weight"], want)
    with dequantised(open_source(path)) as source:
        assert source.dtype("p.l.weight") == "F32" and source.shape("p.l.weight") == (6, 8)
        assert torch.equal(source.get("p.l.weight", dtype=torch.bfloat16), want.bfloat16())
    with open_source(path) as source:
        assert str(numbers(source)) == "fp8_scaled (F8_E4M3)"


def test_plain_fp8_and_a_scale_a_row(tmp_path, layer):
    stored, _ = layer
    path = tmp_path / "x.safetensors"
    have = read(path, {"l.weight": stored, "m.weight": stored.float().to(E5M2)})
    assert torch.equal(have["l.weight"], stored.float())
    assert torch.equal(have["m.weight"], stored.float().to(E5M2).float())
    rows = torch.arange(1.0, 7.0)
    for scale in (rows, rows[:, None]):
        have = read(path, {"l.weight": stored, "l.weight_scale": scale})
        assert torch.equal(have["l.weight"], stored.float() * rows[:, None])
    whole = torch.randint(-127, 128, (6, 8), dtype=torch.int8)
    conf = note(format="int8_tensorwise")
    have = read(path, {"l.weight": whole, "l.weight_scale": rows[:, None], "l.comfy_quant": conf})
    assert torch.equal(have["l.weight"], whole.float() * rows[:, None])


def test_a_marker_speaks_for_its_own_model_only(tmp_path, layer):
    stored, scale = layer
    text = {"text.scaled_fp8": torch.empty(2, dtype=E4M3), "text.l.weight": stored, "text.l.scale_weight": scale}
    have = read(tmp_path / "x.safetensors", text | {"dit.l.weight": stored})
    assert torch.equal(have["dit.l.weight"], stored.float())
    assert torch.equal(have["text.l.weight"], stored.float() * scale)
    with pytest.raises(InputError, match=r"1 weights have no scale \(text\.m\.weight\)"):
        read(tmp_path / "x.safetensors", text | {"text.m.weight": stored})


def foreign(layer):
    """(tensors, what the refusal says; None for what can be read)"""
    stored, scale = layer
    one = {"l.weight": stored, "l.weight_scale": scale}
    whole = {"l.weight": torch.ones(6, 8, dtype=torch.int8), "l.weight_scale": scale}
    return [
        (one | {"l.comfy_quant": note(format="nvfp4")}, "nvfp4"),
        (one | {"l.weight_scale_2": scale}, "nvfp4"),
        (one | {"l.comfy_quant": note(format="mxfp8")}, "mxfp8"),
        ({"l.weight": stored, "l.weight_scale": torch.ones(6, 1).to(torch.float8_e8m0fnu)}, "mxfp8"),
        (whole | {"l.comfy_quant": note(format="int8_tensorwise", convrot=True)}, "convrot"),
        (whole | {"l.comfy_quant": note(format="int8_tensorwise", params={"convrot": True})}, "convrot"),
        (one | {"l.comfy_quant": note(format="awq_w4a16")}, "awq_w4a16"),
        (one | {"l.comfy_quant": note(format=["x"])}, "x"),
        ({"l.qweight": torch.ones(2, dtype=torch.int32)}, "AWQ"),
        ({"l.weight": torch.ones(2, dtype=torch.uint8), "l.weight.absmax": scale}, "bitsandbytes"),
        (one | {"l.comfy_quant": torch.zeros(3, dtype=torch.uint8)}, "unreadably"),
        (one | {"l.comfy_quant": note(format="float8_e5m2")}, "declared as float8_e5m2"),
        (whole, None),
        ({"l.weight": whole["l.weight"]}, "no scale"),
        ({"l.weight": stored, "scaled_fp8": torch.empty(2, dtype=E4M3)}, "have no scale"),
        ({"l.weight": stored, "l.comfy_quant": note(format="float8_e4m3fn")}, "have no scale"),
        ({"l.scale_weight": scale}, "scales no quantised weight"),
        ({"l.weight": torch.ones(6, 8), "l.scale_weight": scale}, "scales no quantised weight"),
        (one | {"l.scale_weight": scale}, "scales no quantised weight"),
        (one | {"l.weight_scale": torch.ones(3)}, "one scale a tensor or row"),
    ]


def test_what_cannot_be_read_is_refused_by_name(tmp_path, layer):
    for tensors, says in foreign(layer):
        if says is None:
            read(tmp_path / "x.safetensors", tensors)
            continue
        with pytest.raises(InputError, match=says) as error:
            read(tmp_path / "x.safetensors", tensors)
        assert "\n" not in str(error.value)


def test_inspect_calls_readable_what_can_be_read(tmp_path, layer):
    """By construction: what a file is called, whether it is called readable, and what happens when it is read."""
    stored, scale = layer
    marked = {"scaled_fp8": torch.empty(0, dtype=E4M3)}
    fine = [
        ({"l.weight": torch.ones(6, 8)}, None),
        ({"l.weight": torch.ones(6, 8)} | marked, None),
        ({"l.weight": stored}, "fp8"),
        ({"l.weight": stored.float().to(E5M2), "l.scale_weight": scale} | marked, "fp8_scaled"),
        ({"l.weight": stored, "l.weight_scale": scale, "l.comfy_quant": note(format="float8_e4m3fn")}, "fp8_scaled"),
        ({"l.weight": torch.ones(6, 8, dtype=torch.int8), "l.weight_scale": scale}, "int8"),
        (
            {
                "l.weight": torch.ones(6, 8, dtype=torch.int8),
                "l.weight_scale": torch.ones(6, 1),
                "l.comfy_quant": note(format="int8_tensorwise"),
            },
            "int8",
        ),
    ]
    bad = [(tensors, says) for tensors, says in foreign(layer) if says not in (None, "unreadably")]
    for readable, cases in ((True, fine), (False, bad)):
        for tensors, name in cases:
            path = tmp_path / "x.safetensors"
            save_file({key: value.clone() for key, value in tensors.items()}, str(path))
            with OpenFiles() as opened:
                file, identity = opened.open(path), identify(path, opened)
                assert identity.readable == file.readable == readable, (tensors.keys(), name)
                if readable:
                    assert (identity.values["quantisation"], file.numbers.quantisation) == (name, name)
                    assert all(file.plain.get(key).isfinite().all() for key in file.plain.keys())
                else:
                    with pytest.raises(InputError, match=name):
                        dequantised(file.source)


def test_inspect_refuses_a_description_that_cannot_be_read(tmp_path, layer):
    tensors = {"l.weight": layer[0], "l.comfy_quant": torch.zeros(3, dtype=torch.uint8)}
    save_file(tensors, str(tmp_path / "x.safetensors"))
    with pytest.raises(InputError, match="unreadably"):
        identify(tmp_path / "x.safetensors")


@pytest.mark.parametrize("kind", PACKED)
def test_inspect_calls_readable_every_kind_that_artists_have(tmp_path, kind):
    if kind[0] == "Q":
        pytest.importorskip("gguf")
    tensors = {f"blocks.{n}.ffn.0.weight": torch.randn(8, 256) for n in range(2)} | {"blocks.0.norm": torch.ones(4)}
    path, values = packed(tmp_path / "x", kind, tensors)
    with OpenFiles() as opened:
        file, identity = opened.open(path), identify(path, opened)
        assert identity.readable and set(file.plain.keys()) == set(values)
        title = {"int8": "int8", "fp8": "fp8", "Q": "GGUF"}.get(kind if kind[0] != "Q" else "Q", "fp8_scaled")
        assert file.numbers.quantisation == identity.values["quantisation"] == title
        assert str(file.numbers).startswith(title) and file.numbers.counted.startswith(title)
