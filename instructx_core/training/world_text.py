"""The small tokenizer of the tiny model: byte-level BPE trained on the texts of the procedural world.

Deterministic: the same numbers of the same splits give the same file. Unknown words still encode, as bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer

from .. import shapes
from ..config import InstructXConfig
from ..encoder.tokenizer import load_tokenizer, train_tokenizer
from . import rng

SAMPLES = 1500  # per kind of text


def world_texts(config: InstructXConfig) -> Iterator[str]:
    """Instructions, captions, questions and answers of training samples, and the prompt's own words."""
    rule = config.instruction
    yield from [rule.system_prompt, rule.reference_suffix, "system\n", "user\n", "assistant\n"] * 20
    for index in range(SAMPLES):
        edit = shapes.sample("train", index)
        yield from (edit.instruction, edit.caption)
        _, caption, scene = shapes.scene_sample("train", index)
        yield caption
        for question, answer in shapes.qa_pairs(scene, rng.philox(index)):
            yield from (question, answer)


def world_tokenizer(output: Path, config: InstructXConfig) -> Tokenizer:
    """Loads <output>/tokenizer.json, training it first when it is missing."""
    path = output / "tokenizer.json"
    if not path.is_file():
        output.mkdir(parents=True, exist_ok=True)
        partial = output / ".tokenizer.json"
        train_tokenizer(world_texts(config), config.mllm.vocab_size).save(str(partial))
        partial.replace(path)
    return load_tokenizer(path)
