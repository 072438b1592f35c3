"""Whole edits by the public reference, for make_golden.py: its own pipeline object, called as its demo calls it.

Its crop -> its pipeline (MLLM, latents of source and reference, two steps, decoding) on the small models of
tests/support/kiwi_edits.py, fp32, untiled. What passes between its parts is watched from outside and stored in brief.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import kiwi_edits as edits
import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Parts:
    """Builders of the reference's parts, of make_golden.py, and how it writes a tensor down."""

    encoder: Callable[..., Any]
    dit: Callable[..., tuple[Any, Any, Any]]
    vae: Callable[..., Any]
    numbers: Callable[[Tensor], list[Any]]


def coordinates(height: int, width: int) -> np.ndarray:
    """A picture whose pixels say where they are: (x mod 256, y mod 256, 16 (y div 256) + x div 256)."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x % 256, y % 256, y // 256 * 16 + x // 256], axis=-1).astype(np.uint8)


def crop_of(kiwi: Any, height: int, width: int) -> dict[str, Any]:
    """The size that its demo gives a source, and the box (top, left, height, width) that it cuts out first."""
    picture, seen = coordinates(height, width), []

    class Recorder:
        @staticmethod
        def fromarray(array: np.ndarray) -> Image.Image:
            seen.append(array)
            return Image.fromarray(array)

    real, kiwi.video.Image = kiwi.video.Image, Recorder
    size = kiwi.video.get_height_width(Image.fromarray(picture), 720 * 1280)
    if size != (height, width):
        kiwi.video.crop_and_resize(Image.fromarray(picture), *size)
    kiwi.video.Image = real
    cut = seen[0] if seen else picture
    x, y, high = (int(v) for v in cut[0, 0])
    return {"size": list(size), "crop": [y + high // 16 * 256, x + high % 16 * 256, *cut.shape[:2]]}


def watch(holder: Any, name: str, seen: list[Tensor]) -> None:
    """Calls of holder.name go on as they were, and what they return is kept."""
    real = getattr(holder, name)

    def watched(*args: Any, **kwargs: Any) -> Any:
        made = real(*args, **kwargs)
        seen.append(made.detach().clone())
        return made

    object.__setattr__(holder, name, watched)  # a bound method of an instance; nn.Module would look for a module


def pipeline(kiwi: Any, parts: Parts, channels: int) -> tuple[Any, dict[str, list[Tensor]]]:
    """Its pipeline with small parts, and what passes between them by stage."""
    pipe = kiwi.pipeline.WanVideoPipeline(device="cpu", torch_dtype=torch.float32)
    pipe.mllm = parts.encoder(kiwi, {}, edits.edit_config(channels))
    pipe.dit, pipe.vae_condition, pipe.ref_vae_condition = parts.dit(kiwi, edits.dit_sizes(channels))
    pipe.ref_vae_condition.ref_pad_first = False
    pipe.vae = parts.vae(kiwi, channels)
    seen: dict[str, list[Tensor]] = {name: [] for name in ("mllm", "encoded", "velocity", "latents", "pixels")}
    watch(pipe.mllm, "forward", seen["mllm"])
    watch(pipe.vae, "encode", seen["encoded"])
    watch(pipe.vae, "decode", seen["pixels"])
    watch(pipe, "model_fn", seen["velocity"])
    watch(pipe.scheduler, "step", seen["latents"])
    return pipe, seen


def demo_frames(kiwi: Any, frames: Tensor) -> list[Image.Image]:
    """The source as its demo reads it: cropped and scaled to sides of whole multiples of 32."""
    images = [Image.fromarray(frame.numpy()) for frame in frames]
    size = kiwi.video.get_height_width(images[0], edits.MAX_PIXELS)
    if size == tuple(frames.shape[1:3]):
        return images
    return [kiwi.video.crop_and_resize(image, *size) for image in images]


def edit(kiwi: Any, pipe: Any, seen: dict[str, list[Tensor]], kind: str, size: tuple[int, int]) -> dict[str, Tensor]:
    """One edit; what its parts gave, by stage."""
    for tensors in seen.values():
        tensors.clear()
    source, picture = edits.edit_case(kind, *size)
    frames = demo_frames(kiwi, source)
    pipe(
        prompt=edits.INSTRUCTION,
        source_input=frames,
        src_video=frames,
        ref_image=None if picture is None else [Image.fromarray(picture.numpy())],
        height=frames[0].height,
        width=frames[0].width,
        num_frames=len(frames),
        seed=edits.SEED,
        num_inference_steps=edits.STEPS,
        tiled=False,
        progress_bar_cmd=lambda steps: steps,
    )
    made = {
        "context": seen["mllm"][0],
        "source": seen["encoded"][0],
        "velocity": seen["velocity"][0],
        "latents": seen["latents"][-1],
        "pixels": seen["pixels"][0],
    }
    if picture is not None:
        made["reference"] = seen["encoded"][1]
    return made


def edit_numbers(kiwi: Any, parts: Parts) -> dict[str, Any]:
    """The boxes that its demo cuts out of these sizes, and every case."""
    crops = {f"{height}x{width}": crop_of(kiwi, height, width)["crop"] for height, width in edits.SIZES}
    pipes = {channels: pipeline(kiwi, parts, channels) for channels in (16, 48)}
    cases = {}
    for kind, height, width, channels in edits.CASES:
        made = edit(kiwi, *pipes[channels], kind, (height, width))
        numbers = {stage: parts.numbers(torch.tensor(edits.summary(tensor))) for stage, tensor in made.items()}
        cases[f"{kind} {height}x{width} {channels}"] = numbers
    return {"pillow": PIL.__version__, "crops": crops, "cases": cases}
