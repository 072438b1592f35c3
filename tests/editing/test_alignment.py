"""An edit lies where its source lies: identity edits through edit_file, registered to hundredths of a pixel.

The VAE is replaced by a lossless one, because what a VAE moves is in its weights and no business of the path: the
shipped tiny one moves its pictures by some tenths of a pixel (docs/large-and-robust.md).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.configuration_utils import FrozenDict
from einops import rearrange
from torch import Tensor

from instructx_core.editing.edit import edit_file
from instructx_core.editing.paste import KeepOutside
from instructx_core.geometry import FitBox
from instructx_core.media.files import read_media, write_image, write_video
from instructx_core.speed.memory import MemoryPlan
from instructx_core.speed.tiling import Tiling

SIZES = [(64, 64), (65, 97), (101, 67), (90, 130), (63, 211), (128, 48)]


class LosslessVae(torch.nn.Module):
    """Wan's shapes without any loss: the 4 x 8 x 8 pixels of a cell are its channels."""

    def __init__(self) -> None:
        super().__init__()
        channels = 3 * 4 * 8 * 8
        self.config = FrozenDict(scale_factor_spatial=8, latents_mean=[0.0] * channels, latents_std=[1.0] * channels)
        self.dtype, self.device = torch.float32, torch.device("cpu")

    def encode(self, video: Tensor, return_dict: bool = True) -> tuple[Any]:
        longer = torch.cat([video[:, :, :1].expand(-1, -1, 3, -1, -1), video], dim=2)
        latent = rearrange(longer, "b c (t k) (h p) (w q) -> b (c k p q) t h w", k=4, p=8, q=8)
        return (SimpleNamespace(mode=lambda: latent),)

    def decode(self, latent: Tensor, return_dict: bool = True) -> tuple[Tensor]:
        return (rearrange(latent, "b (c k p q) t h w -> b c (t k) (h p) (w q)", c=3, k=4, p=8, q=8)[:, :, 3:],)


@pytest.fixture(scope="module")
def registration(load_helper: Callable[[str, str], ModuleType]) -> ModuleType:
    return load_helper("instructx_test_registration", "support/registration.py")


@pytest.fixture
def identity(random_pipe: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The pipeline with a velocity that leads from any noise to the source: x = (1 - sigma) x0 + sigma noise."""
    monkeypatch.setattr(random_pipe, "vae", LosslessVae())
    monkeypatch.setattr(random_pipe, "memory", MemoryPlan())
    monkeypatch.setattr(
        "instructx_core.sampling.denoise.predict",
        lambda model, x, level, conditions, guidance: (x - conditions.source.float()) / level.sigma,
    )
    return random_pipe


def expected(picture_HWC: np.ndarray, box: FitBox) -> np.ndarray:
    """The source sampled at the centres of the result's pixels, by the reported box and another library's filters."""
    ndimage = pytest.importorskip("scipy.ndimage")
    top, left, bottom, right = box.source_box
    soft = picture_HWC.astype(np.float64)
    if box.scale < 1:
        soft = ndimage.gaussian_filter(soft, (0.45 / box.scale, 0.45 / box.scale, 0))
    y = top + (np.arange(box.height) + 0.5) * (bottom - top) / box.height - 0.5
    x = left + (np.arange(box.width) + 0.5) * (right - left) / box.width - 0.5
    places = np.meshgrid(y, x, indexing="ij")
    channels = [ndimage.map_coordinates(soft[..., c], places, order=3, mode="nearest") for c in range(3)]
    return np.stack(channels, axis=-1)


def test_the_measure_sees_shift_and_zoom(registration: ModuleType) -> None:
    picture = registration.blobs(64, 64)
    assert registration.misplacement(picture, picture) < 1e-6
    assert registration.misplacement(picture, np.roll(picture, 1, axis=1)) == pytest.approx(1, abs=0.15)
    ndimage = pytest.importorskip("scipy.ndimage")
    half = ndimage.shift(picture.astype(float), (0.5, 0, 0), order=3, mode="nearest")
    assert registration.misplacement(picture, half) == pytest.approx(0.5, abs=0.05)
    zoomed = ndimage.zoom(picture.astype(float), (66 / 64, 66 / 64, 1), order=3)[1:65, 1:65]
    assert registration.misplacement(picture, zoomed) > 0.5


@pytest.mark.parametrize("size", SIZES)
def test_pictures(identity: Any, registration: ModuleType, tmp_path: Path, size: tuple[int, int]) -> None:
    picture = registration.blobs(*size)
    write_image(tmp_path / "in.png", picture)
    report = edit_file(identity, tmp_path / "in.png", "x", output=tmp_path / "out.png", steps=2)
    (result,) = read_media(tmp_path / "out.png").frames_FHWC
    off = registration.misplacement(expected(picture, report.box), result)
    print(f"{size}: {off:.4f} pixels")
    assert off < 0.1
    report = edit_file(
        identity, tmp_path / "in.png", "x", output=tmp_path / "full.png", steps=1, keep_outside=KeepOutside(feather=0)
    )
    assert (read_media(tmp_path / "full.png").frames_FHWC[0] == picture).all(), "nothing was changed"


def test_clips(identity: Any, registration: ModuleType, tmp_path: Path) -> None:
    """18 frames at an odd scale, padded to 21 and trimmed; each shows its own picture at its own place."""
    pictures = [registration.blobs(90, 130, seed=i) for i in range(18)]
    write_video(tmp_path / "in.mp4", np.stack(pictures), 10, crf=1)
    report = edit_file(identity, tmp_path / "in.mp4", "x", output=tmp_path / "out.mp4", steps=1, max_frames=18)
    results = read_media(tmp_path / "out.mp4").frames_FHWC
    assert len(results) == 18
    pairs = zip(pictures, results, strict=True)
    off = max(registration.misplacement(expected(picture, report.box), result) for picture, result in pairs)
    print(f"clip: {off:.4f} pixels")
    assert off < 0.1


def test_tiles(identity: Any, registration: ModuleType, tmp_path: Path) -> None:
    """In tiles as well: bit for bit what goes in comes out."""
    picture = registration.blobs(304, 208)
    write_image(tmp_path / "in.png", picture)
    identity.memory.tile = Tiling(128, 32)
    edit_file(identity, tmp_path / "in.png", "x", output=tmp_path / "out.png", steps=1, max_pixels=304 * 208)
    assert (read_media(tmp_path / "out.png").frames_FHWC[0] == picture).all()
