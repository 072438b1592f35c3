"""Out of memory during sampling or decoding: the next smaller plan once, said aloud; else one clear sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from instructx_core.editing.edit import edit_file
from instructx_core.errors import InputError
from instructx_core.speed.memory import MemoryPlan, is_out_of_memory, within_memory

CPU_MESSAGE = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"


@pytest.fixture
def pipe(random_pipe: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(random_pipe, "memory", MemoryPlan())
    return random_pipe


@pytest.fixture
def source(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (272, 288, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    return tmp_path / "in.png"


def edit(pipe: Any, source: Path) -> Any:
    return edit_file(pipe, source, "x", output=source.parent / "out.png", steps=1, max_pixels=288 * 288)


def test_decode_goes_on_in_tiles(
    pipe: Any, source: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole, forwards = pipe.vae.decode, list[int]()

    def decode(latent: torch.Tensor, **options: Any) -> Any:
        if max(latent.shape[-2:]) > 32:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return whole(latent, **options)

    monkeypatch.setattr(pipe.vae, "decode", decode)
    hook = pipe.transformer.register_forward_hook(lambda *_: forwards.append(1))
    report = edit(pipe, source)
    hook.remove()
    assert len(forwards) == 1, "the sampled latent was kept"
    said = "out of memory while decoding: tried again with VAE in 4 tiles of at most 256 px"
    assert any(said in note for note in report.notes) and caplog.text.count(said) == 1
    edit(pipe, source)
    assert caplog.text.count(said) == 1, "the plan stays for the next edit"


def test_encode_goes_on_in_tiles_and_the_seed_is_the_same(
    pipe: Any, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, noises = pipe.vae.encode, list[torch.Tensor]()
    draw = pipe.prepare_latents

    def encode(video: torch.Tensor, **options: Any) -> Any:
        if max(video.shape[-2:]) > 256:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(video, **options)

    monkeypatch.setattr(pipe.vae, "encode", encode)
    monkeypatch.setattr(pipe, "prepare_latents", lambda *a: noises.append(draw(*a)) or noises[-1])
    assert "while encoding: tried again with VAE in 4 tiles" in " ".join(edit(pipe, source).notes)
    expected = torch.randn(noises[0].shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(noises[0], expected)


def test_nothing_smaller_is_left(pipe: Any, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def forward(**_: Any) -> Any:
        calls.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    (source.parent / "out.png").write_bytes(b"old")
    monkeypatch.setattr(pipe.transformer, "forward", forward)
    with pytest.raises(
        InputError, match=r"out of memory while sampling \(CUDA.*no smaller plan is left; use a smaller"
    ):
        edit(pipe, source)
    assert len(calls) == 1, "tiles of the VAE cannot help the DiT"
    assert (source.parent / "out.png").read_bytes() == b"old"
    assert sorted(p.name for p in source.parent.iterdir()) == ["in.png", "out.png"]


def test_the_order_of_the_plans() -> None:
    """On an accelerator: each smaller tile once, then offload once, then the error."""

    plan, offloads, tiles = MemoryPlan(), list[int](), list[Any]()

    def run() -> None:
        tiles.append(plan.tile)
        plan._frame, plan._in_vae = (1088, 1920), True
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(InputError, match="no smaller plan"):
        within_memory(plan, "decoding", run, offload=lambda: offloads.append(1))
    sizes = [tile if isinstance(tile, str) else tile.size for tile in tiles]
    assert sizes == ["auto", 768, 512, 256, 256] and len(offloads) == 1
    assert len(plan.notes) == 4 and "wait on the CPU" in plan.notes[-1]


def test_what_counts_as_out_of_memory() -> None:
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(RuntimeError(CPU_MESSAGE))
    assert is_out_of_memory(RuntimeError("could not create a primitive")), "oneDNN's; seen under a limit of memory"
    assert not is_out_of_memory(RuntimeError("could not create a primitive descriptor for a convolution"))
    assert not is_out_of_memory(RuntimeError("shape mismatch")) and not is_out_of_memory(ValueError("out of memory"))

    def broken() -> None:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape"):
        within_memory(MemoryPlan(), "sampling", broken)


def test_pixels_that_are_not_finite(pipe: Any, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A VAE that overflows (float16): named, nothing written."""
    whole = pipe.vae.decode
    monkeypatch.setattr(pipe.vae, "decode", lambda z, **options: (whole(z, **options)[0] * float("inf"),))
    with pytest.raises(InputError, match=r"pixels of the VAE are not finite .*float32"):
        edit(pipe, source)
    assert [p.name for p in source.parent.iterdir()] == ["in.png"]
