"""The cache of latents: samples of a source, encoded once (encoding.py), kept on disk and read by number in training.

A pool is a folder of shards (safetensors) that are written whole or not at all, so building it can be killed and
resumed, or shared by processes. Its name says split, bucket and source and carries a digest of the weights and settings
that it was encoded with: others never read it. Shards of a source that lies in files are named by their content.
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
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from tqdm import tqdm

from ..digests import model_digest
from ..media.outputs import write_safetensors
from .bucket import Bucket, Kind
from .encoding import PoolTensors, encode_edits, encode_scenes, is_tower_trained, keep_pixels
from .raw_sample import RawSample, Renderer, draw_captioned, draw_edit, draw_or_reject, draw_picture, draw_questions
from .record.rejects import RejectedRecord, write_rejects
from .source import EditSource, StoredSource

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

    from ..encoder.context_encoder import ContextEncoder

SHARD = {"image": 500, "video": 50}  # samples a file
CHUNK = {"image": 50, "video": 4}  # encoded at once, at most
CHUNK_PIXELS = 1 << 21  # of all samples that are encoded at once: two pictures of 1024x1024, one clip of 480P
VERSION = 4  # of this file's output

T = TypeVar("T")
Draw = Callable[..., RawSample]  # source, split, bucket, number -> a sample; picklable
Encode = Callable[[Sequence[RawSample]], PoolTensors]


@dataclass(frozen=True, slots=True)
class Pool:
    """Samples by row: latents and features in fp16, pixels in uint8, and texts for each.

    Shards are mapped from their files, not read: processes share them in memory, and what is not asked for stays on
    disk. numbers: of each row in the source; a sample that turned out to be bad has no row. starts: the first row of
    each shard.
    """

    shards: list[dict[str, Tensor]]
    texts: list[list[tuple[str, ...]]]  # of each sample, to choose from
    numbers: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, name: str, indices: np.ndarray) -> Tensor:
        """(len(indices), ...) fp32."""
        taken = torch.empty(len(indices), *self.shards[0][name].shape[1:])
        for place, row in enumerate(indices.tolist()):
            shard = int(np.searchsorted(self.starts, row, side="right")) - 1
            taken[place] = self.shards[shard][name][row - self.starts[shard]]
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


def select_all(source: EditSource, split: str, kinds: Sequence[Kind]) -> list[Selection]:
    """Every sample of these kinds, of a source that has finitely many."""
    return [
        Selection(split, bucket, 0, source.size(split, bucket))
        for bucket in source.buckets(split)
        if bucket.kind in kinds
    ]


@dataclass(frozen=True, slots=True)
class ShardTask:
    """A shard of a pool: its file and how its samples are drawn. Small enough to be sent to another machine."""

    path: Path
    numbers: list[int]
    bucket: Bucket
    drawing: Callable[[int], RawSample | RejectedRecord]

    def write(self, renderer: Renderer, encode: Encode) -> None:
        """Does nothing where another process has made it meanwhile."""
        if not self.path.is_file():
            with torch.no_grad():
                drawn = renderer.draw(self.drawing, self.numbers)
                write_shard(self.path, self.numbers, drawn, encode, chunk_size(self.bucket))

    def read(self) -> Shard:
        return read_shard(self.path, self.numbers)


@dataclass(frozen=True, slots=True)
class Cache:
    """Where pools are kept, what they are drawn from, and who draws."""

    folder: Path
    source: EditSource
    renderer: Renderer = field(default_factory=Renderer)

    def edits(self, selection: Selection, vae: AutoencoderKLWan, encoder: ContextEncoder) -> Pool:
        """Encoded edit pairs, from the disk or made now; latents alone for an encoder that looks at no pictures."""
        tasks = self.edit_tasks(selection, pool_mark(vae, encoder))
        self.write(tasks, edit_encoder(vae, encoder))
        return self.read(tasks)

    def edit_tasks(self, selection: Selection, mark: str) -> list[ShardTask]:
        """All shards of a pool of edits, on the disk or not, encoded by models of this pool_mark."""
        return self._tasks("edit", selection, draw_edit, mark)

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
        tasks = self._tasks(content, selection, draw, mark)
        self.write(tasks, lambda bucket: encode)
        return self.read(tasks)

    def _tasks(self, content: str, selection: Selection, draw: Draw, mark: str) -> list[ShardTask]:
        source, split, bucket = self.source, selection.split, selection.bucket
        numbers = range(selection.start, selection.start + selection.count)
        if isinstance(source, StoredSource):
            name, groups = f"records-{content}-{bucket}", source.groups(split, bucket, numbers)
        else:
            name, rows = f"{source.name}-{source.version}-{content}-{split}-{bucket}", SHARD[bucket.modality]
            parts = [numbers[first : first + rows] for first in range(0, len(numbers), rows)]
            groups = [(f"{some.start:08d}", list(some)) for some in parts]
        folder, tasks = self.folder / f"{name}-v{VERSION}-{mark}", list[ShardTask]()
        for group, some in groups:
            if isinstance(source, StoredSource):
                drawing = partial(draw_or_reject, draw, source.part(split, bucket, some), split, bucket)
            else:
                drawing = partial(draw, source, split, bucket)
            tasks.append(ShardTask(folder / f"{group}-{len(some)}.safetensors", some, bucket, drawing))
        return tasks

    def write(self, tasks: Sequence[ShardTask], encoder_of: Callable[[Bucket], Encode]) -> None:
        """Makes the shards that are missing, with a progress bar. encoder_of: what encodes samples of a bucket.

        Of several processes each begins with its own. Raises InputError when too many samples cannot be read.
        """
        missing = [task for task in own_first(tasks) if not task.path.is_file()]
        for folder in {task.path.parent for task in missing}:
            folder.mkdir(parents=True, exist_ok=True)
        for task in tqdm(missing, desc="encoding", unit="file", disable=not missing):
            task.write(self.renderer, encoder_of(task.bucket))
            self.refuse(task.read().rejects)

    def read(self, tasks: Sequence[ShardTask]) -> Pool:
        """Opens a pool whose shards are all there; rejects.jsonl in its folder lists what could not be read.

        Raises InputError when that is too much.
        """
        shards = [task.read() for task in tasks]
        rejects = [reject for shard in shards for reject in shard.rejects]
        if rejects:
            write_rejects(tasks[0].path.parent / "rejects.jsonl", rejects)
            self.refuse(rejects)
        shards = [shard for shard in shards if shard.numbers]
        starts = np.cumsum([0, *(len(shard.numbers) for shard in shards)])[:-1]
        rows = np.array([number for shard in shards for number in shard.numbers], dtype=np.int64)
        texts = [each for shard in shards for each in shard.texts]
        return Pool([shard.tensors for shard in shards], texts, rows, starts)

    def refuse(self, rejects: Sequence[RejectedRecord]) -> None:
        """Tells the source of files what turned out to be bad. Raises InputError when it is too much."""
        if rejects and isinstance(self.source, StoredSource):
            self.source.refuse(rejects)


def edit_encoder(vae: AutoencoderKLWan, encoder: ContextEncoder) -> Callable[[Bucket], Encode]:
    """What encodes edit pairs of a bucket."""
    viewer = encoder if encoder.sees_pictures else None
    return lambda bucket: partial(encode_edits, bucket=bucket, vae=vae, encoder=viewer)


def chunk_size(bucket: Bucket) -> int:
    """Samples that are encoded at once: what the VAE needs for them grows with their pixels."""
    return max(1, min(CHUNK[bucket.modality], CHUNK_PIXELS // bucket.pixels))


def pool_mark(vae: AutoencoderKLWan, encoder: ContextEncoder | None = None) -> str:
    """Of everything that a pool is computed with. The VAE's decoder is not: it may be trained further."""
    modules, settings = [vae.encoder, vae.quant_conv], ""
    if encoder is not None and encoder.sees_pictures:
        modules.append(encoder.mllm.visual)
        settings = json.dumps(dataclasses.asdict(encoder.instructx.instruction))
        settings += "frames" if is_tower_trained(encoder.instructx) else ""
    return model_digest(settings, *modules)[:12]


def own_first(shared: Sequence[T]) -> list[T]:
    """What this process of several begins with, then what is the others', who may be gone or slow: from its end, so
    that two meet in the middle instead of doing the same."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    others = [each for first in range(1, world) for each in shared[(rank + first) % world :: world][::-1]]
    return [*shared[rank::world], *others]


@dataclass(frozen=True, slots=True)
class Shard:
    """A file of a pool: a row for each of `numbers`."""

    tensors: dict[str, Tensor]
    texts: list[list[tuple[str, ...]]]
    numbers: list[int]
    rejects: list[RejectedRecord]


def write_shard(
    path: Path, numbers: Sequence[int], drawn: Iterator[RawSample | RejectedRecord], encode: Encode, chunk: int
) -> None:
    """Encodes `chunk` samples at once; the file appears under its name when it is whole."""
    parts, texts, rejects, kept = list[PoolTensors](), [], list[RejectedRecord](), list[int]()

    def good() -> Iterator[RawSample]:
        for place, each in enumerate(drawn):
            if isinstance(each, RejectedRecord):
                rejects.append(each)
            else:
                kept.append(place)
                yield each

    samples = good()
    while some := list(islice(samples, chunk)):
        parts.append(encode(some))
        texts += [each.texts for each in some]
    tensors = {name: torch.cat([part[name] for part in parts]).contiguous() for name in (parts[0] if parts else ())}
    about = {"texts": json.dumps(texts)}
    if len(kept) < len(numbers):  # places in the group: the same group has other numbers in another mixture
        about |= {"kept": json.dumps(kept), "rejects": json.dumps([dataclasses.asdict(each) for each in rejects])}
    write_safetensors(path, tensors, about)


def read_shard(path: Path, numbers: Sequence[int]) -> Shard:
    """numbers: of the group that the shard was written for."""
    with safe_open(path, "pt") as file:
        about = file.metadata()
        texts = [[tuple(text) for text in each] for each in json.loads(about["texts"])]
        kept = json.loads(about["kept"]) if "kept" in about else range(len(numbers))
        rejects = [RejectedRecord(**each) for each in json.loads(about.get("rejects", "[]"))]
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    return Shard(tensors, texts, [numbers[place] for place in kept], rejects)
