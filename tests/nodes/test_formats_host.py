"""instructx_core/formats against the host's own code: the same file, the same numbers.

fp8_scaled in both spellings and plain fp8 through the host's loaders, whose layers unpack their own weights; the two
Wan VAEs through the host's classes. The host unpacks in its compute dtype: in fp32 the weights must be equal bit for
bit, in a shorter one within its two roundings.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from instructx_core.config import EMBEDDERS
from instructx_core.errors import InputError
from instructx_core.formats.layouts.dit import read_dit
from instructx_core.formats.layouts.keymaps import dit_to_original, vae_to_original
from instructx_core.formats.layouts.modules import empty_parameters
from instructx_core.formats.layouts.weight_file import open_weights

pytestmark = pytest.mark.comfyui


@pytest.fixture(scope="module")
def files(load_helper) -> ModuleType:
    return load_helper("instructx_test_format_files", "formats/small.py")


@pytest.fixture(scope="module")
def case(load_helper) -> Any:
    helper = load_helper("instructx_test_dit_case", "nodes/dit_case.py")
    return helper.Case(helper.config_of())


def host_weights(path: Path) -> dict[str, Tensor]:
    """Matrices of the layers as the host computes with them."""
    from comfy.sd import load_diffusion_model

    model = load_diffusion_model(str(path), model_options={})
    weights = {}
    for name, module in model.model.diffusion_model.named_modules():
        weight = getattr(module, "weight", None)
        if weight is None or weight.ndim != 2:
            continue
        plain = module.convert_weight(weight) if hasattr(module, "convert_weight") else weight
        weights[f"{name}.weight"] = plain.detach()
    return weights


def library_weights(path: Path, case: Any) -> dict[str, Tensor]:
    from instructx_core.denoiser import build_denoiser

    with empty_parameters():
        model = build_denoiser(case.config)
    with open_weights(path) as file:
        read_dit(model, file, case.config, dtype=torch.float32)
    return {
        dit_to_original(name): value for name, value in model.state_dict().items() if not name.startswith(EMBEDDERS)
    }


def agree(host: dict[str, Tensor], ours: dict[str, Tensor]) -> int:
    """Number of matrices compared; the host's dtype decides how closely."""
    for name, weight in host.items():
        want = ours[name].to(weight.dtype).float()
        # two roundings of the host (weight and scale) against one of ours
        tolerance = 0.0 if weight.dtype == torch.float32 else 2 ** -(7 if weight.dtype == torch.bfloat16 else 10)
        assert ((weight.float() - want).abs() <= tolerance * want.abs() + 1e-30).all(), (name, weight.dtype)
    return len(host)


def test_scaled_fp8_is_what_the_host_computes_with(comfy, files, case, tmp_path):
    old = files.save(tmp_path / "old.safetensors", files.scaled(case.state))
    new = files.save(tmp_path / "new.safetensors", *files.described(files.scaled(case.state, ".weight_scale")))
    for path in (old, new):
        ours = library_weights(path, case)
        host = host_weights(path)
        assert {weight.dtype for weight in host.values()} == {torch.float32}  # so that agree is exact
        assert agree(host, ours) >= 2 * 10 + 5
        assert not torch.equal(ours["blocks.0.ffn.0.weight"], case.state["blocks.0.ffn.0.weight"])


def test_a_lora_changes_what_the_host_changes(comfy, case, files, tmp_path):
    """ComfyUI's and musubi's names, alpha, and the differences of distilled files, each through the host's own code."""
    from comfy.sd import load_lora_for_models
    from comfy.utils import load_torch_file

    from instructx_core.formats.layouts.lora import apply_lora

    generator = torch.Generator().manual_seed(0)
    for start, dot in (("diffusion_model.", "."), ("lora_unet_", "_")):
        tensors = {}
        for layer in ("blocks.0.self_attn.q", "blocks.1.cross_attn.o", "blocks.1.ffn.2", "head.head"):
            rows, columns = case.state[f"{layer}.weight"].shape
            name = start + layer.replace(".", dot)
            tensors[f"{name}.lora_down.weight"] = torch.randn(3, columns, generator=generator) * 0.1
            tensors[f"{name}.lora_up.weight"] = torch.randn(rows, 3, generator=generator) * 0.1
            if layer != "head.head":
                tensors[f"{name}.alpha"] = torch.tensor(6.0)
        if dot == ".":
            for key, part in (("blocks.0.norm3.weight", "diff"), ("blocks.0.ffn.0.bias", "diff_b")):
                value = torch.randn(case.state[key].shape, generator=generator)
                tensors[f"{start}{key.rpartition('.')[0]}.{part}"] = value
        path = files.save(tmp_path / "lora.safetensors", tensors)
        model, _ = load_lora_for_models(case.load(dtype=torch.float32), None, load_torch_file(str(path)), 0.6, 0.0)
        model.patch_model()
        host = dict(model.model.diffusion_model.named_parameters())
        ours = copy.deepcopy(case.library)
        with open_weights(path) as file:
            report = apply_lora(ours, file, 0.6)
        assert len(report.consumed) == len(tensors) and not report.ignored
        for name, value in ours.named_parameters():
            want = host[dit_to_original(name)]
            assert want.dtype == torch.float32
            torch.testing.assert_close(value, want, rtol=1e-5, atol=1e-6, msg=name)
        assert not torch.equal(host["head.head.weight"], case.state["head.head.weight"])


def test_plain_fp8_and_bf16_are_what_the_host_computes_with(comfy, files, case, tmp_path):
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float16):
        path = files.save(tmp_path / "x.safetensors", {k: v.to(dtype) for k, v in case.state.items()})
        host = {name: weight.float() for name, weight in host_weights(path).items()}
        assert agree(host, library_weights(path, case)) >= 25


def test_formats_that_only_the_host_reads_are_refused_by_name(comfy, files, case, tmp_path):
    quant = pytest.importorskip("comfy.quant_ops")
    known = set(quant.QUANT_ALGOS)
    for name in sorted(known - {"float8_e4m3fn", "float8_e5m2", "int8_tensorwise"}):
        tensors = {
            "blocks.0.ffn.0.comfy_quant": torch.tensor(list(json.dumps({"format": name}).encode()), dtype=torch.uint8)
        }
        path = files.save(tmp_path / "x.safetensors", case.state | tensors)
        with pytest.raises(InputError, match=f"quantised as {name}"):
            library_weights(path, case)


@pytest.mark.parametrize("channels", [16, 48])
def test_the_vaes_are_the_hosts(comfy, files, tmp_path, channels):
    from instructx_core.formats.loading import load_vae
    from instructx_core.vae import build_vae

    config = files.config(channels)
    original = files.state(build_vae(config.vae), lambda name: vae_to_original(name, config.vae))
    sizes = {"dim": 8, "z_dim": channels, "temperal_downsample": [False, True, True]}
    if channels == 48:
        from comfy.ldm.wan.vae2_2 import WanVAE

        host = WanVAE(dec_dim=12, **sizes)
    else:
        from comfy.ldm.wan.vae import WanVAE

        host = WanVAE(**sizes)
    host.load_state_dict(original, strict=True)
    ours = load_vae(files.save(tmp_path / "x.safetensors", original), config, torch.float32)
    pixels = torch.rand(1, 3, 9, 64, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latent, want = ours.encode(pixels).latent_dist.mean, host.eval().encode(pixels)
        picture, theirs = ours.decode(want).sample, host.decode(want)
    assert latent.shape == want.shape and picture.shape == theirs.shape
    assert want.std() > 0.01 and theirs.std() > 0.01
    torch.testing.assert_close(latent, want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(picture, theirs.clamp(-1, 1), rtol=1e-4, atol=1e-5)
