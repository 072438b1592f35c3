"""Pools: samples of the procedural world, rendered and encoded once, read by number in training.

What is frozen is computed here and never again: VAE latents of source, target and reference, and the vision tower's
features of the frames that the MLLM sees. A pool is a folder of shards (safetensors + JSON) that are written whole or
not at all, so building it can be killed and resumed, or shared by processes. Its name carries a hash of everything it
depends on: other weights or another preset never read an old pool.
Legend: N samples, C channels, T latent frames, H W latent cells, S vision tokens, D width.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from .. import shapes
from ..config import InstructXConfig
from ..encoder.model import InstructXEncoder
from ..encoder.positions import Grid
from ..encoder.vision import prepare_pictures
from ..vae import encode_latents
from .pictures import to_pixels

SHARD = {"image": 500, "video": 50}
CHUNK = {"image": 50, "video": 4}  # encoded at once
VERSION = 1  # of this file's output


@dataclass(frozen=True, slots=True)
class Pool:
    """`tensors[name][i]` and `texts[i]` belong together. Latents and features are fp16."""

    tensors: dict[str, Tensor]
    texts: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, name: str, indices: np.ndarray) -> Tensor:
        return self.tensors[name][torch.from_numpy(indices)].float()


def fingerprint(vae: AutoencoderKLWan, *modules: nn.Module) -> str:
    """Of everything that a pool is computed with. The VAE's decoder is not: it may be trained further."""
    digest = hashlib.sha256()
    for module in (vae.encoder, vae.quant_conv, *modules):
        for name, parameter in module.named_parameters():
            digest.update(name.encode())
            digest.update(parameter.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def edit_tasks(split: str, modality: str, has_reference: bool) -> tuple[str, ...]:
    return tuple(task for task in shapes.tasks_of(split, modality) if (task in shapes.REFERENCE_TASKS) == has_reference)


def edit_sample(split: str, number: int, modality: str, has_reference: bool) -> shapes.Sample:
    """Number -> sample, the tasks in turn."""
    tasks = edit_tasks(split, modality, has_reference)
    return shapes.sample(split, number, modality, tasks[number % len(tasks)])


def grids(config: InstructXConfig, encoder: InstructXEncoder, modality: str) -> tuple[Grid, Grid]:
    """(source grid, reference grid) in patches of a 64x64 sample."""
    frames = shapes.FRAMES[modality]
    size = shapes.SIZE
    return encoder.grid_of(frames, size, size, modality), encoder.grid_of(1, size, size, "reference")


def _latents(vae: AutoencoderKLWan, clips: list[np.ndarray]) -> Tensor:
    return encode_latents(vae, torch.stack([to_pixels(clip) for clip in clips])).half()


def _features(encoder: InstructXEncoder, clips: list[np.ndarray], kind: str) -> Tensor:
    pairs = [prepare_pictures(torch.from_numpy(clip), encoder.instructx, kind) for clip in clips]
    return encoder.encode_vision(torch.stack([patches for patches, _ in pairs]), pairs[0][1]).half()


def edit_chunk(
    vae: AutoencoderKLWan, encoder: InstructXEncoder, split: str, numbers: range, modality: str, has_reference: bool
) -> tuple[dict[str, Tensor], list[str]]:
    """Latents (N,C,T,H,W), features (N,S,D) and instructions of the samples."""
    samples = [edit_sample(split, number, modality, has_reference) for number in numbers]
    tensors = {
        "source": _latents(vae, [s.source_FHWC for s in samples]),
        "target": _latents(vae, [s.target_FHWC for s in samples]),
        "vision": _features(encoder, [s.source_FHWC for s in samples], modality),
    }
    if has_reference:
        pictures = [s.reference_HWC[None] for s in samples if s.reference_HWC is not None]
        tensors["reference"] = _latents(vae, pictures)
        tensors["reference_vision"] = _features(encoder, pictures, "reference")
    return tensors, [s.instruction for s in samples]


def scene_chunk(
    vae: AutoencoderKLWan, split: str, numbers: range, modality: str
) -> tuple[dict[str, Tensor], list[str]]:
    """Latents and captions of scenes without an edit."""
    scenes = [shapes.scene_sample(split, number, modality, shapes.looks_of(modality)) for number in numbers]
    return {"target": _latents(vae, [frames for frames, _, _ in scenes])}, [caption for _, caption, _ in scenes]


Chunk = Callable[[range], tuple[dict[str, Tensor], list[str]]]


def _write_shard(path: Path, chunk: Chunk, numbers: range, step: int) -> None:
    parts = [chunk(range(i, min(i + step, numbers.stop))) for i in range(numbers.start, numbers.stop, step)]
    tensors = {name: torch.cat([part[name] for part, _ in parts]).contiguous() for name in parts[0][0]}
    texts = json.dumps([text for _, chunk_texts in parts for text in chunk_texts])
    partial = path.with_suffix(f".partial-{os.getpid()}")
    save_file(tensors, partial, {"texts": texts})
    partial.replace(path)


def build_pool(folder: Path, chunk: Chunk, start: int, count: int, modality: str) -> Pool:
    """Reads the pool, building the shards that are missing (with a progress bar)."""
    folder.mkdir(parents=True, exist_ok=True)
    size = SHARD[modality]
    shards = [range(i, min(i + size, start + count)) for i in range(start, start + count, size)]
    paths = [folder / f"{numbers.start:08d}-{len(numbers)}.safetensors" for numbers in shards]
    missing = [(p, n) for p, n in zip(paths, shards, strict=True) if not p.is_file()]
    if int(os.environ.get("RANK", "0")) % 2:
        missing.reverse()  # two processes meet in the middle
    for path, numbers in tqdm(missing, desc=f"pool {folder.name}", disable=not missing):
        if not path.is_file():  # another process may have made it meanwhile
            with torch.no_grad():
                _write_shard(path, chunk, numbers, CHUNK[modality])
    loaded = [read_shard(path) for path in paths]
    names = loaded[0].tensors
    return Pool(
        {name: torch.cat([pool.tensors[name] for pool in loaded]) for name in names},
        [text for pool in loaded for text in pool.texts],
    )


def read_shard(path: Path) -> Pool:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        texts = json.loads(file.metadata()["texts"])
    return Pool(load_file(path), texts)


def edit_pool(
    output: Path,
    vae: AutoencoderKLWan,
    encoder: InstructXEncoder,
    *,
    split: str,
    modality: str,
    has_reference: bool,
    start: int,
    count: int,
) -> Pool:
    mark = fingerprint(vae, encoder.mllm.visual)
    kind = "reference" if has_reference else "plain"
    folder = output / "pools" / f"edit-{split}-{modality}-{kind}-v{VERSION}-{mark}"
    return build_pool(
        folder, lambda n: edit_chunk(vae, encoder, split, n, modality, has_reference), start, count, modality
    )


def scene_pool(output: Path, vae: AutoencoderKLWan, *, split: str, modality: str, start: int, count: int) -> Pool:
    folder = output / "pools" / f"scene-{split}-{modality}-v{VERSION}-{fingerprint(vae)}"
    return build_pool(folder, lambda n: scene_chunk(vae, split, n, modality), start, count, modality)
