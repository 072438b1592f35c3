"""The cache of latents: samples of a source, encoded once (encoding.py), kept on disk and read by number in training.

A pool is a folder of shards (safetensors) that are written whole or not at all, so building it can be killed and
resumed, or shared by processes. Its name says split, bucket and source and carries a digest of the weights and settings
that it was encoded with: others never read it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from ..digests import model_digest
from .bucket import Bucket, Kind
from .encoding import Encoded, encode_edits, encode_scenes
from .source import EditSource, PretrainingSource

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

    from ..encoder.model import InstructXEncoder

SHARD = {"image": 500, "video": 50}  # samples a file
CHUNK = {"image": 50, "video": 4}  # encoded at once
VERSION = 3  # of this file's output


@dataclass(frozen=True, slots=True)
class Pool:
    """`tensors[name][i]` and `texts[i]` belong together. Latents and features are fp16."""

    tensors: dict[str, Tensor]
    texts: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, name: str, indices: np.ndarray) -> Tensor:
        return self.tensors[name][torch.from_numpy(indices)].float()


@dataclass(frozen=True, slots=True)
class Selection:
    """The samples of a pool: `count` numbers of a bucket from `start` on."""

    split: str
    bucket: Bucket
    start: int
    count: int


def select_samples(source: EditSource, split: str, counts: dict[Kind, int], start: int = 0) -> list[Selection]:
    """`counts` samples of each kind, shared evenly by its buckets; fewer where a bucket has no more."""
    buckets = source.buckets(split)
    selections = []
    for kind, count in counts.items():
        same = [bucket for bucket in buckets if bucket.kind == kind]
        for position, bucket in enumerate(same):
            share = count * (position + 1) // len(same) - count * position // len(same)
            share = min(share, source.size(split, bucket) - start)
            if share > 0:
                selections.append(Selection(split, bucket, start, share))
    return selections


def edit_pool(
    cache: Path, source: EditSource, selection: Selection, vae: AutoencoderKLWan, encoder: InstructXEncoder
) -> Pool:
    """Encoded edit pairs, from `cache` or made now."""
    split, bucket = selection.split, selection.bucket

    def encode(numbers: range) -> Encoded:
        return encode_edits([source.edit(split, number, bucket) for number in numbers], bucket, vae, encoder)

    name = pool_name("edit", source, selection, pool_mark(vae, encoder))
    return build_pool(cache / name, encode, selection)


def scene_pool(cache: Path, source: PretrainingSource, selection: Selection, vae: AutoencoderKLWan) -> Pool:
    """Encoded scenes with their captions, from `cache` or made now."""
    split, bucket = selection.split, selection.bucket

    def encode(numbers: range) -> Encoded:
        return encode_scenes([source.scene(split, number, bucket) for number in numbers], vae)

    return build_pool(cache / pool_name("scene", source, selection, pool_mark(vae)), encode, selection)


def pool_name(content: str, source: EditSource, selection: Selection, mark: str) -> str:
    return f"{source.name}-{source.version}-{content}-{selection.split}-{selection.bucket}-v{VERSION}-{mark}"


def pool_mark(vae: AutoencoderKLWan, encoder: InstructXEncoder | None = None) -> str:
    """Of everything that a pool is computed with. The VAE's decoder is not: it may be trained further."""
    modules, settings = [vae.encoder, vae.quant_conv], ""
    if encoder is not None:
        modules.append(encoder.mllm.visual)
        settings = json.dumps(dataclasses.asdict(encoder.instructx.instruction))
    return model_digest(settings, *modules)[:12]


def build_pool(folder: Path, encode: Callable[[range], Encoded], selection: Selection) -> Pool:
    """Reads the pool, building the shards that are missing (with a progress bar)."""
    folder.mkdir(parents=True, exist_ok=True)
    modality, start, stop = selection.bucket.modality, selection.start, selection.start + selection.count
    shards = [range(i, min(i + SHARD[modality], stop)) for i in range(start, stop, SHARD[modality])]
    paths = [folder / f"{numbers.start:08d}-{len(numbers)}.safetensors" for numbers in shards]
    missing = [(path, numbers) for path, numbers in zip(paths, shards, strict=True) if not path.is_file()]
    if int(os.environ.get("RANK", "0")) % 2:
        missing.reverse()  # two processes meet in the middle
    for path, numbers in tqdm(missing, desc=f"pool {folder.name}", disable=not missing):
        if not path.is_file():  # another process may have made it meanwhile
            with torch.no_grad():
                write_shard(path, encode, numbers, CHUNK[modality])
    loaded = [read_shard(path) for path in paths]
    names = loaded[0].tensors
    return Pool(
        {name: torch.cat([pool.tensors[name] for pool in loaded]) for name in names},
        [text for pool in loaded for text in pool.texts],
    )


def write_shard(path: Path, encode: Callable[[range], Encoded], numbers: range, chunk: int) -> None:
    """Encodes `chunk` samples at once; the file appears under its name when it is whole."""
    parts = [encode(range(i, min(i + chunk, numbers.stop))) for i in range(numbers.start, numbers.stop, chunk)]
    tensors = {name: torch.cat([part[name] for part, _ in parts]).contiguous() for name in parts[0][0]}
    texts = json.dumps([text for _, texts in parts for text in texts])
    partial = path.with_suffix(f".partial-{os.getpid()}")
    save_file(tensors, partial, {"texts": texts})
    partial.replace(path)


def read_shard(path: Path) -> Pool:
    with safe_open(path, "pt") as file:
        return Pool({name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["texts"]))
