"""The quick layers of the VAE against diffusers' own: numbers, gradients, and where they step aside."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanRMS_norm
from torch import Tensor, nn

from instructx_core.config import VaeConfig, preset, tiny
from instructx_core.vae import build_vae
from instructx_core.vae_layers import FAST, CausalConv3d, ChannelNorm

WAN = dataclasses.replace(tiny().vae, base_dim=8)
WAN22 = dataclasses.replace(preset("kiwi_5b").vae, base_dim=8, decoder_base_dim=8)


def stock_of(model: nn.Module) -> nn.Module:
    """The same weights in diffusers' layers."""
    model, own = copy.deepcopy(model), {quick: usual for usual, quick in FAST.items()}
    for module in model.modules():
        module.__class__ = own.get(type(module), type(module))
    assert not any(isinstance(module, (CausalConv3d, ChannelNorm)) for module in model.modules())
    return model


def pair(config: VaeConfig):
    torch.manual_seed(0)
    quick = build_vae(config).eval()
    assert not any(type(module) in FAST for module in quick.modules())
    return quick, stock_of(quick)


@pytest.mark.parametrize("config", [WAN, WAN22], ids=["wan", "wan22"])
@pytest.mark.parametrize("shape", [(2, 3, 1, 32, 48), (1, 3, 9, 32, 48)], ids=["image", "clip"])
def test_numbers_and_gradients_are_those_of_diffusers(config: VaeConfig, shape: tuple[int, ...]) -> None:
    found = []
    for vae in pair(config):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
        latent = vae.encode(x).latent_dist.mean
        pixels = vae.decode(latent).sample
        pixels.square().mean().backward()
        found.append([latent, pixels, x.grad, *(parameter.grad for parameter in vae.parameters())])
    for ours, theirs in zip(*found, strict=True):
        if ours is None or theirs is None:  # a convolution over time alone has nothing to do in an image
            assert ours is theirs and shape[2] == 1
            continue
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() <= 2e-5 * max(1.0, theirs.abs().max())


@pytest.mark.parametrize("change", ["bf16", "fp64", "autocast"])
@torch.no_grad()
def test_other_formats_go_diffusers_own_way(change: str) -> None:
    """To the bit, on clips; a single frame is a 2-D convolution in all of them."""
    dtype = {"bf16": torch.bfloat16, "fp64": torch.float64}.get(change, torch.float32)
    x = torch.randn(1, 3, 5, 16, 16, dtype=dtype)
    kinds = [(CausalConv3d, WanCausalConv3d, (3, 4, 3, 1, 1)), (ChannelNorm, WanRMS_norm, (3, True, False))]
    for quick, usual, given in kinds:
        torch.manual_seed(0)
        ours = quick(*given).to(dtype)
        theirs = copy.deepcopy(ours)
        theirs.__class__ = usual
        with torch.autocast("cpu", torch.bfloat16, enabled=change == "autocast"):
            assert ours(x).equal(theirs(x))


@torch.no_grad()
def test_what_has_no_length_stays_zero() -> None:
    norm = ChannelNorm(4, images=False)
    x = torch.zeros(1, 4, 2, 3, 3)
    assert not norm(x).any()
    x[:, :, 0] = 1e-14  # below the bound under a root, so divided by that
    assert torch.allclose(norm(x), WanRMS_norm(4, images=False)(x), rtol=1e-5, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("cached", [1, 2])
def test_frames_kept_from_before_come_first(cached: int) -> None:
    conv = CausalConv3d(3, 5, 3, padding=1)
    usual = copy.deepcopy(conv)
    usual.__class__ = WanCausalConv3d
    x, before = torch.randn(2, 3, 4, 8, 10), torch.randn(2, 3, cached, 8, 10)
    expected: Tensor = usual(x, before)
    assert torch.allclose(conv(x, before), expected, atol=1e-5)
    strided = CausalConv3d(3, 5, (3, 1, 1), stride=(2, 1, 1), padding=(0, 0, 0))
    usual = copy.deepcopy(strided)
    usual.__class__ = WanCausalConv3d
    assert torch.allclose(strided(x, before), usual(x, before), atol=1e-5)


def test_a_copy_has_its_own_weights() -> None:
    """The layers are classes, not methods bound to the model that they were copied from."""
    vae, _ = pair(WAN)
    other = copy.deepcopy(vae)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
        x = torch.randn(1, 3, 1, 16, 16)
        assert not other.encode(x).latent_dist.mean.any() and vae.encode(x).latent_dist.mean.any()
    assert other.state_dict().keys() == vae.state_dict().keys()
