"""What the MLLM says of every pair, encoded once: its instructions, and others that are to mean what they meant.

Between the cache of latents (data/cache.py) and jobs/lora.py. With them the MLLM leaves the card; where a LoRA of it is
trained they are made in every step instead.
Legend: N contexts, B batch, L tokens, D width.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
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

    said: RowTexts
    contexts_NLD: Tensor
    starts: np.ndarray

    def take(self, rows: np.ndarray, choices: np.ndarray) -> Tensor:
        return self.contexts_NLD[torch.from_numpy(self.starts[rows] + choices)]


def build_contexts(folder: Path, mark: str, pool: Pool, bucket: Bucket, said: RowTexts, encode: Encode) -> ContextTable:
    """From the disk, or encoded now and kept there. mark: of the encoder and its settings."""
    seen = [{name: each for name, each in shard.items() if "vision" in name} for shard in pool.shards]
    told = json.dumps([mark, said.texts, pool.numbers.tolist(), weights_digest(*seen)])
    path = folder / f"contexts-{bucket}-{hashlib.sha256(told.encode()).hexdigest()[:16]}.safetensors"
    counts = [len(texts) for texts in said.texts]
    if not path.is_file():
        rows = np.repeat(np.arange(len(pool)), counts)
        texts = [text for some in said.texts for text in some]
        with torch.no_grad():  # one by one: of several, the shorter would be padded, which changes rounding
            parts = [
                encode(rows[place : place + 1], [text]).cpu()
                for place, text in enumerate(tqdm(texts, desc=f"contexts {bucket}"))
            ]
        write_safetensors(path, {"contexts": torch.cat(parts)}, {"bucket": json.dumps(dataclasses.asdict(bucket))})
    contexts_NLD = load_file(path)["contexts"]
    return ContextTable(said, contexts_NLD, np.cumsum([0, *counts])[:-1])
