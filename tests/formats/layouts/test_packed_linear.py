"""A frozen DiT whose layers stay as their file stores them: the same numbers as unpacked, forward and backward."""

from __future__ import annotations

import pytest
import torch
from small import PACKED, config, packed, save, state

from instructx_core.denoiser import build_denoiser
from instructx_core.errors import InputError
from instructx_core.formats.layouts import keymaps
from instructx_core.formats.layouts.packed_linear import PackedLinear
from instructx_core.formats.loading import load_denoiser


@pytest.fixture(scope="module")
def wan():
    return state(build_denoiser(config()).eval(), keymaps.dit_to_original)


def draw(config_):
    generator = torch.Generator().manual_seed(3)
    latent = torch.randn(1, 16, 1, 4, 4, generator=generator)
    return latent, torch.tensor([700.0]), torch.randn(1, 5, config_.denoiser.dim, generator=generator)


def run(model):
    """Output, and the gradient of its sum by the context."""
    noisy, time, context = draw(config())
    context.requires_grad_(True)
    out = model(noisy, time, context, return_dict=False)[0]
    out.sum().backward()
    return out.detach(), context.grad


@pytest.mark.parametrize("kind", PACKED)
def test_the_same_numbers_as_unpacked(wan, tmp_path, kind):
    path, _ = packed(tmp_path / "x", kind, wan)
    plain = load_denoiser(path, config(), dtype=torch.float32).requires_grad_(False)
    kept = load_denoiser(path, config(), dtype=torch.float32, packed=True).requires_grad_(False)
    layers = [layer for layer in kept.modules() if isinstance(layer, PackedLinear)]
    assert len(layers) == 20  # ten a block: attentions and FFN
    assert sum(layer.packed.bytes for layer in layers) < 0.3 * 4 * sum(
        layer.in_features * layer.out_features for layer in layers
    )
    for ours, theirs in zip(run(kept), run(plain), strict=True):
        assert torch.equal(ours, theirs)


def test_a_plain_file_has_none(wan, tmp_path):
    path = save(tmp_path / "x.safetensors", {name: value.bfloat16() for name, value in wan.items()})
    model = load_denoiser(path, config(), dtype=torch.bfloat16, packed=True)
    assert not [layer for layer in model.modules() if isinstance(layer, PackedLinear)]
    assert model.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16


def test_nan_in_a_packed_layer_is_refused(wan, tmp_path):
    broken = {name: value.to(torch.float8_e4m3fn) for name, value in wan.items()}
    broken["blocks.1.ffn.0.weight"].view(torch.uint8)[0, 0] = 0x7F
    path = save(tmp_path / "x.safetensors", broken)
    with pytest.raises(InputError, match=r"blocks\.1\.ffn\.0\.weight holds NaN"):
        load_denoiser(path, config(), dtype=torch.float32, packed=True)
