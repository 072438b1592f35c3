"""The nodes move nothing: an identity edit through Source and Reference and Sampler's decoding, odd sizes included.

Compared with the library's VAE on the same weights, because what a VAE moves is in its weights.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.comfyui


@pytest.fixture(scope="module")
def vaes(comfy: Any, shipped: Any) -> tuple[Any, Any]:
    """(the host's, the library's) of the shipped model."""
    from comfy import sd, utils

    from instructx_core.weights import load_pipeline

    (file,) = (shipped / "vae").glob("*.safetensors")
    return sd.VAE(sd=utils.load_torch_file(str(file))), load_pipeline(shipped).vae


@pytest.mark.parametrize(("height", "width", "frames"), [(64, 64, 1), (61, 91, 1), (91, 50, 1), (48, 67, 6)])
@pytest.mark.parametrize("rule", ["crop", "pad"])
def test_in_place(
    pack: Callable[[str], ModuleType],
    load_helper: Callable[[str, str], ModuleType],
    vaes: Any,
    height: int,
    width: int,
    frames: int,
    rule: str,
) -> None:
    registration = load_helper("instructx_test_registration", "support/registration.py")
    names = ("parts.fitting", "parts.source", "parts.sampling")
    fitting, source, sampling = (pack(f"nodes.{name}") for name in names)
    host, own = vaes
    picture = registration.blobs(height, width)
    clip = torch.from_numpy(np.stack([picture] * frames)).float() / 255
    with torch.inference_mode():
        fitted = fitting.fit_source(clip, 16, 4, rule, "pad")
        latent, _ = source.encode(host, fitted, [], apart=False)
        result = sampling.decode(host, latent, fitted.placement)
        signed = fitted.frames_FHWC.permute(3, 0, 1, 2)[None] * 2 - 1
        through = own.decode(own.encode(signed).latent_dist.mode()).sample[0].permute(1, 2, 3, 0) / 2 + 0.5
    if rule == "pad":
        assert result.shape == clip.shape
        through = through[:frames, :height, :width]
    else:
        top, left = (height - result.shape[1]) // 2, (width - result.shape[2]) // 2
        kept = clip[:, top : top + result.shape[1], left : left + result.shape[2]]
        assert torch.equal(fitted.frames_FHWC[:frames], kept), "what is cropped is cut centred, and not scaled"
        through = through[:frames]
    assert result.shape == through.shape
    pairs = zip(through.numpy() * 255, result.numpy() * 255, strict=True)
    off = max(registration.misplacement(want, have) for want, have in pairs)
    print(f"{width}x{height}, {frames} frames, {rule}: {off:.5f} pixels")
    assert off < 0.1
