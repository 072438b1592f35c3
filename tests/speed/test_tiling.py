"""Tiles of the VAE: they cover, their weights sum to 1, seams stay small, odd sizes, the device holds one tile only."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from instructx_core.config import kiwi_5b, paper_14b
from instructx_core.errors import InputError
from instructx_core.media.files import read_image
from instructx_core.pixels import to_signed
from instructx_core.sampling.batch import edit_batch
from instructx_core.speed import tiling
from instructx_core.speed.memory import MemoryPlan
from instructx_core.speed.tiling import (
    TilePlan,
    Tiling,
    VideoShape,
    decode_tiled,
    encode_tiled,
    plan_tiling,
    tile_spans,
    vae_bytes,
)
from instructx_core.vae import build_vae
from instructx_core.weights import load_pipeline

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("length", "size", "overlap"), [(5, 32, 8), (33, 32, 8), (67, 32, 8), (240, 64, 16), (61, 9, 4)]
)
def test_spans_cover_with_equal_overlapping_tiles(length: int, size: int, overlap: int) -> None:
    spans = tile_spans(length, size, overlap)
    assert spans[0][0] == 0 and spans[-1][1] == length
    assert len({stop - start for start, stop in spans}) == 1 and spans[0][1] <= size
    for (_, stop), (start, _) in pairwise(spans):
        assert overlap <= stop - start <= (spans[0][1] + 1) // 2 + overlap // 2
    total = torch.zeros(length * 8)
    for (start, stop), ramp in zip(spans, tiling._ramps(spans, 8), strict=True):
        total[start * 8 : stop * 8] += ramp
    assert torch.allclose(total, torch.ones_like(total), atol=1e-6)


class Exact(torch.nn.Module):
    """A VAE without surroundings: each cell is the mean of its pixels. Tiles of it must be exact, wherever they lie."""

    def __init__(self, cell: int) -> None:
        super().__init__()
        self.config, self.dtype = {"scale_factor_spatial": cell}, torch.float32
        self.shapes: list[tuple[int, ...]] = []

    def encode(self, video: torch.Tensor, return_dict: bool) -> tuple[Any]:
        self.shapes.append(tuple(video.shape[-2:]))
        cell = self.config["scale_factor_spatial"]
        latent = torch.nn.functional.avg_pool3d(video[:, :, ::4], (1, cell, cell))
        return (type("Posterior", (), {"mode": lambda _: latent})(),)

    def decode(self, latent: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
        self.shapes.append(tuple(latent.shape[-2:]))
        cell = self.config["scale_factor_spatial"]
        return (latent.repeat_interleave(cell, -1).repeat_interleave(cell, -2),)


@pytest.mark.parametrize(("height", "width"), [(272, 336), (64, 400), (400, 64), (48, 32)])
@pytest.mark.parametrize("cell", [8, 16])
def test_every_cell_comes_from_its_own_place(height: int, width: int, cell: int) -> None:
    vae: Any = Exact(cell)
    video = torch.rand(1, 3, 5, height, width, generator=torch.manual_seed(0))
    whole = vae.encode(video, return_dict=False)[0].mode()
    decoded = vae.decode(whole, False)[0]
    vae.shapes.clear()
    plan = Tiling(128, 32)
    assert torch.allclose(encode_tiled(vae, video, plan, CPU), whole, atol=1e-6)
    assert torch.allclose(decode_tiled(vae, whole, plan, CPU), decoded, atol=1e-6)
    assert all(max(shape) <= 128 for shape in vae.shapes)


@torch.no_grad()
def test_seams_of_the_trained_vae(shipped: Path, photo: Path) -> None:
    """Stated bound: less than 1 of 255 levels in the mean, a tenth of what the VAE itself loses on this photo."""
    vae = load_pipeline(shipped).vae
    pixels_HWC = torch.from_numpy(read_image(photo)[100:196, 200:360].copy())
    video = to_signed(torch.stack([pixels_HWC.roll(3 * i, 1) for i in range(5)]))
    latent = vae.encode(video).latent_dist.mode()
    whole = vae.decode(latent).sample
    plan = Tiling(96, 48)
    assert (encode_tiled(vae, video, plan, CPU) - latent).abs().mean() < 0.05 * latent.std()
    error = (decode_tiled(vae, latent, plan, CPU) - whole).abs()
    assert error.mean() * 127.5 < 1.0 and error.mean() < 0.1 * (whole - video).abs().mean()


@pytest.mark.slow
@torch.no_grad()
def test_seams_of_a_large_picture(shipped: Path, photo: Path) -> None:
    """A ninth of 1920x1072 in 3 x 2 tiles: the same bounds, and no seam that is seen."""
    vae = load_pipeline(shipped).vae
    picture = Image.fromarray(read_image(photo)).resize((640, 352), Image.Resampling.LANCZOS)
    video = to_signed(torch.from_numpy(np.array(picture))[None])
    latent = vae.encode(video).latent_dist.mode()
    whole = vae.decode(latent).sample
    plan = Tiling(256, 64)
    assert (encode_tiled(vae, video, plan, CPU) - latent).abs().mean() < 0.05 * latent.std()
    error = (decode_tiled(vae, latent, plan, CPU) - whole).abs()
    assert error.mean() * 127.5 < 1.0 and error.mean() < 0.1 * (whole - video).abs().mean()
    assert error.amax() * 127.5 < 26, "a tenth of the range at the worst pixel"


def test_the_count_of_bytes_is_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Live tensors on the meta device while a whole clip is decoded, against the formula; the margin covers them."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Live(TorchDispatchMode):
        now = peak = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            import weakref

            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, (tuple, list)) else (out,):
                if isinstance(tensor, torch.Tensor):
                    storage = tensor.untyped_storage()
                    if storage._cdata not in seen:
                        seen.add(storage._cdata)
                        self.now += storage.nbytes()
                        self.peak = max(self.peak, self.now)
                        weakref.finalize(storage, self.gone, storage._cdata, storage.nbytes())
            return out

        def gone(self, key: int, size: int) -> None:
            seen.discard(key)
            self.now -= size

    for config, frames in ((paper_14b().vae, 9), (kiwi_5b().vae, 9), (paper_14b().vae, 1)):
        seen: set[int] = set()
        with torch.device("meta"):
            vae = build_vae(config).eval()
            cell = config.scale_factor_spatial
            latent = torch.empty(1, config.z_dim, (frames - 1) // 4 + 1, 256 // cell, 256 // cell)
        with torch.no_grad(), Live() as live:
            vae.decode(latent)
        counted = vae_bytes(config, VideoShape(1, frames, 256, 256), torch.float32)
        assert live.peak < counted < 1.6 * live.peak, (config, frames)


def test_automatic_plan(random_pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = random_pipe.instructx_config.vae
    assert tiling.free_bytes(torch.device("meta")) is None

    def plan(free: int | None, side: int = 1088) -> TilePlan | None:
        monkeypatch.setattr(tiling, "free_bytes", lambda device: free)
        return plan_tiling(config, torch.float32, VideoShape(1, 17, side, side), CPU)

    shape = VideoShape(1, 17, 1088, 1088)
    need = vae_bytes(config, shape, torch.float32)
    assert vae_bytes(config, shape._replace(batch=3), torch.float32) == pytest.approx(3 * need)
    assert plan(None) is None and plan(2 * need) is None
    medium, smallest = plan(need), plan(1)
    assert medium is not None and medium.tiling.size == 768 and "GiB" in medium.reason and "4 tiles" in medium.reason
    assert smallest is not None and smallest.tiling == Tiling(256, 64)


def test_options() -> None:
    with pytest.raises(InputError, match="at most half"):
        Tiling(128, 100)
    with pytest.raises(InputError, match="auto, on, off"):
        MemoryPlan().set_tile("maybe")


def test_pipeline_works_in_tiles(random_pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """encode_pictures and decode give the VAE one tile at a time and put the frames together again."""
    source, vae, seen = tiny.clip(5, 48, 80), random_pipe.vae, list[int]()
    batch = edit_batch(source, reference=source[0])
    pictures = random_pipe.encode_pictures(batch)
    whole = random_pipe.decode(pictures.source, "pt")
    encode, decode = vae.encode, vae.decode
    monkeypatch.setattr(vae, "encode", lambda x, **options: seen.append(x.shape[-1]) or encode(x, **options))
    monkeypatch.setattr(vae, "decode", lambda z, **options: seen.append(8 * z.shape[-1]) or decode(z, **options))
    monkeypatch.setattr(random_pipe, "memory", MemoryPlan(tile=Tiling(64, 32)))
    again = random_pipe.encode_pictures(batch)
    tiled = random_pipe.decode(pictures.source, "pt")
    assert seen == [56, 56] * 3
    assert again.source.shape == pictures.source.shape and again.references.shape == pictures.references.shape
    assert tiled.shape == whole.shape and (tiled - whole).abs().mean() < 0.05
