"""Quantised files that newer hosts make and run themselves: int8 is read alike, the others are left to the host.

The files are written by the host's own layouts (comfy.quant_ops, package comfy-kitchen), in the host's spelling. What
it computes with is compared with the library, which reads int8 and refuses nvfp4, mxfp8 and rotated int8 by name.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from instructx_core.errors import InputError
from instructx_core.formats.containers.opening import open_source
from instructx_core.formats.containers.quantised import dequantised
from instructx_core.formats.layouts.keymaps import dit_to_diffusers

pytestmark = pytest.mark.comfyui

# format -> how its layout is asked for it, and what the file says beside the format
INT8 = {"int8 a row": {"per_channel": True}, "int8 a tensor": {}}
OTHERS = {"nvfp4": {}, "mxfp8": {}, "convrot": {"per_channel": True, "convrot": True, "convrot_groupsize": 64}}


class Packed:
    """A DiT file whose block matrices a layout of the host has packed. values: what they stand for, by the host."""

    def __init__(self, path: Path, files: ModuleType, state: dict[str, Tensor], name: str, options: dict) -> None:
        quant = pytest.importorskip("comfy.quant_ops")
        kind = "int8_tensorwise" if name.startswith(("int8", "convrot")) else name
        if kind not in quant.QUANT_ALGOS:
            pytest.skip(f"this ComfyUI knows no {kind}")
        self.layout = quant.QUANT_ALGOS[kind]["comfy_tensor_layout"]
        layout = quant.get_layout_class(self.layout)
        told = {"format": kind, **{key: value for key, value in options.items() if key.startswith("convrot")}}
        note = torch.tensor(list(json.dumps(told).encode()), dtype=torch.uint8)
        tensors, self.values = dict(state), {}
        for key, weight in state.items():
            if weight.ndim == 2 and key.startswith("blocks."):
                stored, params = layout.quantize(weight, **options)
                tensors |= {key + end: part for end, part in layout.state_dict_tensors(stored, params).items()}
                tensors[key.replace(".weight", ".comfy_quant")] = note
                self.values[key] = layout.dequantize(stored, params)
        self.path = files.save(path, tensors)


@pytest.fixture(scope="module")
def files(load_helper: Any) -> ModuleType:
    return load_helper("instructx_test_format_files", "formats/small.py")


def host_model(path: Path) -> Any:
    from comfy.sd import load_diffusion_model

    return load_diffusion_model(str(path), model_options={})


@pytest.mark.parametrize("name", INT8)
def test_int8_is_what_the_host_computes_with(
    comfy: Any, files: ModuleType, case: Any, tmp_path: Path, name: str
) -> None:
    """Bit for bit, against the layout that packed it and against the layers of the loaded model."""
    packed = Packed(tmp_path / "x.safetensors", files, case.state, name, INT8[name])
    model = host_model(packed.path).model.diffusion_model
    with dequantised(open_source(packed.path)) as source:
        for key, want in packed.values.items():
            ours, layer = source.get(key), model.get_submodule(key.removesuffix(".weight"))
            assert want.dtype == torch.float32 and torch.equal(ours, want), key
            assert torch.equal(layer.convert_weight(layer.weight), ours), key
            assert 0 < float((ours - case.state[key]).abs().max()) < 0.02, key
    assert len(packed.values) == 20


@pytest.mark.parametrize("name", OTHERS)
def test_what_the_library_refuses_runs_untouched_in_the_host(
    dit: ModuleType, patching: ModuleType, case: Any, conditioning: Any, files: ModuleType, tmp_path: Path, name: str
) -> None:
    """The patch leaves the packed weights as the host loaded them, and the result is that of their values."""
    packed = Packed(tmp_path / "x.safetensors", files, case.state, name, OTHERS[name])
    with open_source(packed.path) as source, pytest.raises(InputError, match=f"quantised as .*{name}"):
        dequantised(source)
    model = patching.patch_model(host_model(packed.path), case.adapter)
    given, owner = dit.draw(case.config, references=1), dit.Case(case.config)
    for key, value in packed.values.items():
        owner.library.get_parameter(dit_to_diffusers(key)).copy_(value)
    got, want = dit.sampled(model, conditioning(model, given)), dit.one_step(owner, given, dit.noise_of())
    exact = dit.one_step(case, given, dit.noise_of())
    apart, effect = (float((a - b).abs().mean() / b.abs().mean()) for a, b in ((got, want), (want, exact)))
    print(f"{name}: {apart:.1e} from its values in fp32, which are {effect:.1e} from the plain weights")
    assert apart < 0.02 and effect > 1e-3
    stored = files_state(packed.path)
    for key in packed.values:
        weight = model.model.diffusion_model.get_parameter(key)
        assert weight._layout_cls == packed.layout and torch.equal(weight._qdata.view(torch.uint8), stored[key])


def files_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file as bytes."""
    from safetensors.torch import load_file

    return {key: value.view(torch.uint8) for key, value in load_file(str(path)).items() if value.ndim}
