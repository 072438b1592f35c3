"""The cache of latents: samples of a source, encoded once (encoding.py), kept on disk and read by number in training.

A pool is a folder of shards (safetensors) that are written whole or not at all, so building it can be killed and
resumed, or shared by processes. Its name says split, bucket and source and carries a digest of the weights and settings
that it was encoded with: others never read it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
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
from .drawn import Drawn, Renderer, draw_captioned, draw_edit, draw_picture, draw_questions
from .encoding import Encoded, encode_edits, encode_scenes, is_tower_trained, keep_pixels
from .source import EditSource

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

    from ..encoder.model import InstructXEncoder

SHARD = {"image": 500, "video": 50}  # samples a file
CHUNK = {"image": 50, "video": 4}  # encoded at once
VERSION = 4  # of this file's output

Draw = Callable[..., Drawn]  # source, split, bucket, number -> a sample; picklable
Encode = Callable[[Sequence[Drawn]], Encoded]


@dataclass(frozen=True, slots=True)
class Pool:
    """Samples by row: latents and features in fp16, pixels in uint8, and texts for each.

    Shards are mapped from their files, not read: processes share them in memory, and what is not asked for stays on
    disk. All but the last have `rows` samples.
    """

    shards: list[dict[str, Tensor]]
    texts: list[list[tuple[str, ...]]]  # of each sample, to choose from
    rows: int

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, name: str, indices: np.ndarray) -> Tensor:
        """(len(indices), ...) fp32."""
        taken = torch.empty(len(indices), *self.shards[0][name].shape[1:])
        for place, row in enumerate(indices.tolist()):
            taken[place] = self.shards[row // self.rows][name][row % self.rows]
        return taken

    def text(self, row: int, draw: int = 0) -> tuple[str, ...]:
        """One of the row's texts; draw: any number, 0 is the first."""
        return self.texts[row][draw % len(self.texts[row])]


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


@dataclass(frozen=True, slots=True)
class Cache:
    """Where pools are kept, what they are drawn from, and who draws."""

    folder: Path
    source: EditSource
    renderer: Renderer = field(default_factory=Renderer)

    def edits(self, selection: Selection, vae: AutoencoderKLWan, encoder: InstructXEncoder) -> Pool:
        """Encoded edit pairs, from the disk or made now."""
        encode = partial(encode_edits, bucket=selection.bucket, vae=vae, encoder=encoder)
        return self._pool("edit", selection, draw_edit, encode, pool_mark(vae, encoder))

    def scenes(self, selection: Selection, vae: AutoencoderKLWan) -> Pool:
        """Encoded scenes with their captions."""
        return self._pool("scene", selection, draw_captioned, partial(encode_scenes, vae=vae), pool_mark(vae))

    def questions(self, selection: Selection) -> Pool:
        """Frames, questions and answers, for an MLLM."""
        return self._pool("question", selection, draw_questions, keep_pixels, "pixels")

    def pictures(self, selection: Selection) -> Pool:
        """Pixels and weights, for a VAE."""
        return self._pool("picture", selection, draw_picture, keep_pixels, "pixels")

    def _pool(self, content: str, selection: Selection, draw: Draw, encode: Encode, mark: str) -> Pool:
        name = f"{self.source.name}-{self.source.version}-{content}-{selection.split}-{selection.bucket}"
        folder = self.folder / f"{name}-v{VERSION}-{mark}"
        drawn = partial(draw, self.source, selection.split, selection.bucket)
        return build_pool(folder, partial(self.renderer.draw, drawn), encode, selection)


def pool_mark(vae: AutoencoderKLWan, encoder: InstructXEncoder | None = None) -> str:
    """Of everything that a pool is computed with. The VAE's decoder is not: it may be trained further."""
    modules, settings = [vae.encoder, vae.quant_conv], ""
    if encoder is not None:
        modules.append(encoder.mllm.visual)
        settings = json.dumps(dataclasses.asdict(encoder.instructx.instruction))
        settings += "frames" if is_tower_trained(encoder.instructx) else ""
    return model_digest(settings, *modules)[:12]


def build_pool(
    folder: Path, draw: Callable[[Sequence[int]], Iterator[Drawn]], encode: Encode, selection: Selection
) -> Pool:
    """Opens the pool, building the shards that are missing (with a progress bar)."""
    folder.mkdir(parents=True, exist_ok=True)
    modality, start, stop = selection.bucket.modality, selection.start, selection.start + selection.count
    rows = SHARD[modality]
    shards = [range(i, min(i + rows, stop)) for i in range(start, stop, rows)]
    paths = [folder / f"{numbers.start:08d}-{len(numbers)}.safetensors" for numbers in shards]
    missing = [(path, numbers) for path, numbers in zip(paths, shards, strict=True) if not path.is_file()]
    if int(os.environ.get("RANK", "0")) % 2:
        missing.reverse()  # two processes meet in the middle
    for path, numbers in tqdm(missing, desc=f"pool {folder.name}", disable=not missing):
        if not path.is_file():  # another process may have made it meanwhile
            with torch.no_grad():
                write_shard(path, draw(numbers), encode, CHUNK[modality])
    opened = [read_shard(path) for path in paths]
    return Pool([tensors for tensors, _ in opened], [each for _, texts in opened for each in texts], rows)


def write_shard(path: Path, drawn: Iterator[Drawn], encode: Encode, chunk: int) -> None:
    """Encodes `chunk` samples at once; the file appears under its name when it is whole."""
    parts, texts = [], []
    while some := list(islice(drawn, chunk)):
        parts.append(encode(some))
        texts += [each.texts for each in some]
    tensors = {name: torch.cat([part[name] for part in parts]).contiguous() for name in parts[0]}
    partial_path = path.with_suffix(f".partial-{os.getpid()}")
    save_file(tensors, partial_path, {"texts": json.dumps(texts)})
    partial_path.replace(path)


def read_shard(path: Path) -> tuple[dict[str, Tensor], list[list[tuple[str, ...]]]]:
    with safe_open(path, "pt") as file:
        texts = [[tuple(text) for text in each] for each in json.loads(file.metadata()["texts"])]
        return {name: file.get_tensor(name) for name in file.keys()}, texts
