"""What is computed once for every pair: contexts of its instructions and of others, and what the model makes of those.

Between the cache of latents (data/cache.py) and jobs/lora.py. With the contexts the MLLM leaves the card; where a LoRA
of it is trained they are made in every step instead.
Legend: N contexts or edits, B batch, L tokens, D width, C channels, T latent frames, H W latent cells.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from ...data.bucket import Bucket
from ...data.cache import Pool
from ...digests import weights_digest
from ...media.outputs import write_safetensors
from ...random_streams import random_stream
from .. import rng

Encode = Callable[[np.ndarray, list[str]], Tensor]  # rows of the pool, a text for each -> contexts (B, L, D)


@dataclass(frozen=True, slots=True)
class RowTexts:
    """What is said of each row of a pool: `taught` instructions of its own first, then those that it keeps."""

    texts: list[list[str]]
    taught: list[int]

    def choose(self, rows: np.ndarray, draws: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """For each of `rows` the number of one of its texts: by a draw, of those that it keeps where `kept` says so."""
        found = []
        for row, draw, keep in zip(rows.tolist(), draws.tolist(), kept.tolist(), strict=True):
            own = self.taught[row]
            found.append(own + draw % (len(self.texts[row]) - own) if keep else draw % own)
        return np.array(found)

    def chosen(self, rows: np.ndarray, choices: np.ndarray) -> list[str]:
        return [self.texts[row][choice] for row, choice in zip(rows.tolist(), choices.tolist(), strict=True)]


def row_texts(pool: Pool, keep: Sequence[str], each: int, seed: int) -> RowTexts:
    """The instructions of a pool, and for each row `each` of those in `keep`."""
    texts, taught = list[list[str]](), list[int]()
    for row in range(len(pool)):
        own = list(dict.fromkeys(text for (text,) in pool.texts[row]))
        chosen = random_stream(seed, rng.KEPT, row).permutation(len(keep))[:each]
        texts.append([*own, *(keep[number] for number in chosen)])
        taught.append(len(own))
    return RowTexts(texts, taught)


@dataclass(frozen=True, slots=True)
class ContextTable:
    """Contexts by row and number of the text; starts: of the first of each row."""

    wordings: RowTexts
    contexts_NLD: Tensor
    starts: np.ndarray

    def take(self, rows: np.ndarray, choices: np.ndarray) -> Tensor:
        return self.contexts_NLD[torch.from_numpy(self.starts[rows] + choices)]


@dataclass(frozen=True, slots=True)
class TableKey:
    """What a table is computed from: model, its settings, the pool and its texts. Where it is kept, and for how long it
    holds."""

    folder: Path
    mark: str
    bucket: Bucket
    pool: Pool
    wordings: RowTexts

    def path(self, kind: str) -> Path:
        seen = [{name: each for name, each in shard.items() if "vision" in name} for shard in self.pool.shards]
        content = json.dumps([self.mark, self.wordings.texts, self.pool.numbers.tolist(), weights_digest(*seen)])
        return self.folder / f"{kind}-{self.bucket}-{hashlib.sha256(content.encode()).hexdigest()[:16]}.safetensors"

    def tensor(self, kind: str, compute: Callable[[], Iterator[Tensor]]) -> Tensor:
        """From the disk, or computed now and kept there."""
        path = self.path(kind)
        if not path.is_file():
            with torch.no_grad():
                write_safetensors(path, {kind: torch.cat([part.cpu() for part in compute()]).contiguous()})
        return load_file(path)[kind]


def build_contexts(key: TableKey, encode: Encode) -> ContextTable:
    """Of every row under each of its texts."""
    counts = [len(texts) for texts in key.wordings.texts]
    rows = np.repeat(np.arange(len(counts)), counts)
    texts = [text for some in key.wordings.texts for text in some]

    def compute() -> Iterator[Tensor]:  # one by one: of several, the shorter would be padded, which changes rounding
        for place, text in enumerate(tqdm(texts, desc=f"contexts {key.bucket}")):
            yield encode(rows[place : place + 1], [text])

    return ContextTable(key.wordings, key.tensor("contexts", compute), np.cumsum([0, *counts])[:-1])


@dataclass(frozen=True, slots=True)
class KeptEdits:
    """What the model makes of each row under the instructions that it keeps; starts: of the first of each row."""

    wordings: RowTexts
    latents_NCTHW: Tensor
    starts: np.ndarray

    def take(self, rows: np.ndarray, choices: np.ndarray) -> Tensor:
        places = [
            self.starts[row] + choice - self.wordings.taught[row] for row, choice in zip(rows, choices, strict=True)
        ]
        return self.latents_NCTHW[torch.tensor(places)].float()


def build_kept(key: TableKey, edit: Callable[[np.ndarray, np.ndarray], Tensor], at_once: int) -> KeptEdits:
    """edit(rows, choices): latents of a batch, made by the model as it was."""
    wordings = key.wordings
    counts = [len(texts) - own for texts, own in zip(wordings.texts, wordings.taught, strict=True)]
    rows = np.repeat(np.arange(len(counts)), counts)
    choices = np.array(
        [own + place for own, count in zip(wordings.taught, counts, strict=True) for place in range(count)]
    )

    def compute() -> Iterator[Tensor]:
        for first in tqdm(range(0, len(rows), at_once), desc=f"what the model makes, {key.bucket}"):
            part = slice(first, first + at_once)
            yield edit(rows[part], choices[part]).half()

    return KeptEdits(wordings, key.tensor("kept", compute), np.cumsum([0, *counts])[:-1])
