"""`instructx info`: the paper's Table 7 from the modules, and FLOPs against the textbook formula."""

from __future__ import annotations

import json

import pytest
from tiny import small_config
from torch._subclasses.fake_tensor import FakeTensor

from instructx_core.config import kiwi_5b, paper_14b, tiny
from instructx_core.costs.info import cost_report
from instructx_core.costs.measure import edit_costs, lora_parameters
from instructx_core.encoder.vision import vision_plan
from instructx_core.errors import InputError
from instructx_core.geometry import ClipSize, mllm_grid


def test_paper_table_7(paper):
    """14B (DiT) + 0.6B (MLLM LoRA)."""
    counts = paper["parameters"]
    assert counts["DiT"] == 14_288_491_584
    assert counts["MLLM LoRA"] == 594_444_288 and round(counts["MLLM LoRA"] / 1e9, 1) == 0.6
    assert counts["MLLM"] == 3_754_622_976 and counts["queries"] == (256 + 512) * 2048
    assert counts["connector"] == 2048 * 5120 + 5120 + 5120 * 5120 + 5120 and counts["own embedders"] == 0


def test_tokens_and_bytes(paper):
    assert paper["tokens"]["DiT"] == 21 * 30 * 52 and paper["tokens"]["DiT per reference"] == 30 * 52
    t, h, w = mllm_grid(81, 480, 832, paper_14b(), "video")
    assert paper["tokens"]["MLLM vision"] == t * h * w // 4 and t == 7
    assert paper["latent"]["shape"] == [1, 16, 21, 60, 104]
    weights = paper["bytes"]["weights"]
    assert weights["fp32"] == 2 * weights["bf16"] == 4 * weights["fp8"]
    assert json.loads(json.dumps(paper)) == paper


def test_dit_flops_equal_the_formula(paper):
    c = paper_14b().denoiser
    length, context, d, f = 32760, 512, c.dim, c.ffn_dim
    block = 2 * length * d * d * 4 + 4 * length * length * d  # self-attention
    block += 2 * length * d * d * 2 + 2 * context * d * d * 2 + 4 * length * context * d  # cross-attention
    block += 2 * length * d * f * 2
    ends = 2 * length * 64 * d * 2 + 2 * (256 * d + d * d + 6 * d * d)
    assert paper["flops"]["DiT step"] == pytest.approx(c.num_layers * block + ends, rel=1e-6)
    assert paper["flops"]["DiT"] == 50 * paper["flops"]["DiT step"]


def test_vae_costs_extrapolate_exactly():
    import torch

    from instructx_core.costs.count import cost_of
    from instructx_core.costs.measure import _vae_costs
    from instructx_core.vae import build_vae

    with torch.device("meta"):
        vae = build_vae(small_config().vae)
        encode, decode = _vae_costs(vae, 4, 32, 48)
        pixels, latent = torch.empty(1, 3, 13, 32, 48), torch.empty(1, 16, 4, 4, 6)
        assert encode == cost_of(lambda: vae.encode(pixels))
        assert decode == cost_of(lambda: vae.decode(latent))


def test_other_presets():
    kiwi = edit_costs(kiwi_5b(), 1, 64, 64)
    assert kiwi["parameters"]["MLLM LoRA"] == 29_491_200 and kiwi["parameters"]["own embedders"] == 2 * 592_896
    assert kiwi["clip"]["modality"] == "image" and kiwi["tokens"]["context"] == 256
    from instructx_core.encoder.designs import build_encoder

    config = tiny()
    encoder = build_encoder(config)
    encoder.add_lora(config.lora)
    added = sum(p.numel() for n, p in encoder.named_parameters() if ".lora_" in n)
    assert lora_parameters(build_encoder(config).mllm, config) == added


def test_text():
    text = cost_report("tiny")
    assert "7.22 M" in text and "64x64, 17 frames" in text and text.isascii()
    with pytest.raises(InputError, match="multiple of 16"):
        cost_report("tiny", ClipSize(70, 64, 17))
    with pytest.raises(InputError, match="16 frames"):
        cost_report("tiny", ClipSize(64, 64, 16))


def test_real_tensors_follow_fake_ones() -> None:
    """The cached window plan of a size that was measured holds no fake tensor afterwards."""
    edit_costs(tiny(), 1, 64, 64)
    _, height, width = mllm_grid(1, 64, 64, tiny(), "image")
    assert not isinstance(vision_plan(height, width, tiny().mllm.vision).cos_NK, FakeTensor)
