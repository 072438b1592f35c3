"""Both Wan VAEs from original and diffusers names. tests/nodes/test_formats_host.py compares with the host's."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small import VAE21, VAE22, config, save, state

from instructx_core.config import kiwi_5b, paper_14b
from instructx_core.errors import InputError
from instructx_core.formats.containers.opening import open_source
from instructx_core.formats.layouts import keymaps
from instructx_core.formats.layouts.modules import empty_parameters
from instructx_core.formats.layouts.vae import read_vae, vae_config
from instructx_core.formats.layouts.weight_file import open_weights
from instructx_core.formats.loading import load_vae
from instructx_core.vae import build_vae

CHANNELS = {16: VAE21, 48: VAE22}


@pytest.fixture(scope="module", params=CHANNELS, ids=["2.1", "2.2"])
def wan(request):
    """(config, the VAE, its weights under original names)"""
    conf = config(request.param)
    vae = build_vae(conf.vae).eval()
    return conf, vae, state(vae, lambda name: keymaps.vae_to_original(name, conf.vae))


def test_every_layout_gives_the_same_pictures_and_latents(wan, tmp_path):
    conf, vae, original = wan
    diffusers = vae.state_dict()
    layouts = [
        save(tmp_path / "bare.safetensors", original),
        save(tmp_path / "wrapped.safetensors", {f"model.{k}": v for k, v in original.items()}),
        save(tmp_path / "vae" / "diffusion_pytorch_model.safetensors", diffusers).parent,
        save(tmp_path / "all.safetensors", {f"vae.{k}": v for k, v in original.items()} | {"other.x": torch.ones(1)}),
    ]
    pixels = torch.rand(1, 3, 5, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latent = vae.encode(pixels).latent_dist.mean
        picture = vae.decode(latent).sample
        for path in layouts:
            loaded = load_vae(path, conf, torch.float32)
            assert torch.equal(loaded.encode(pixels).latent_dist.mean, latent), path
            assert torch.equal(loaded.decode(latent).sample, picture), path
    assert latent.shape == (1, conf.vae.z_dim, 2, *(2 * (32 // conf.vae.scale_factor_spatial,)))
    assert latent.std() > 0.01 and picture.std() > 0.01  # a VAE of zeros would pass
    with empty_parameters():
        model = build_vae(conf.vae)
    with open_weights(layouts[3]) as file:
        report = read_vae(model, file, conf)
    assert report.ignored == ("other.x",) and len(report.consumed) == len(original)


def test_sizes_are_inferred(wan, tmp_path):
    conf, vae, original = wan
    for n, tensors in enumerate((original, vae.state_dict())):
        with open_source(save(tmp_path / f"{n}.safetensors", tensors)) as source:
            assert vae_config(source) == conf.vae


def test_another_vae_is_one_sentence(wan, tmp_path):
    conf, _, original = wan
    path = save(tmp_path / "x.safetensors", original)
    other = config({16: 48, 48: 16}[conf.vae.z_dim])
    with pytest.raises(InputError, match=rf"VAE of {conf.vae.z_dim} channels and width 8, but small needs"):
        load_vae(path, other)
    with pytest.raises(InputError, match=r"width 8, but .* needs a .* width (96|160)"):
        load_vae(path, {16: paper_14b, 48: kiwi_5b}[conf.vae.z_dim]())
    with pytest.raises(InputError, match=r"1 missing \(conv2\.bias\)"):
        load_vae(save(path, {k: v for k, v in original.items() if k != "conv2.bias"}), conf)
    with pytest.raises(InputError, match="unknown tensor name"):
        load_vae(save(path, original | {"colour": torch.ones(1)}), conf)
    with pytest.raises(InputError, match="holds no Wan VAE"):
        load_vae(save(path, {"encoder.0.weight": torch.ones(1)}), conf)
    with pytest.raises(InputError, match="incomplete Wan VAE"):
        load_vae(save(path, original | {"encoder.conv1.weight": torch.ones(1)}), conf)


def test_the_public_vaes_are_inferred():
    for build in (paper_14b, kiwi_5b):
        want = build().vae
        with torch.device("meta"):
            names = build_vae(want).state_dict()
        shapes = {keymaps.vae_to_original(k, want): tuple(v.shape) for k, v in names.items()}

        @dataclasses.dataclass
        class Source:
            path = None
            table: dict

            def keys(self):
                return list(self.table)

            def shape(self, key):
                return self.table[key]

        assert vae_config(Source(shapes)) == want
