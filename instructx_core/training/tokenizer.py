"""The tokenizer of a run: tokenizer.json in the output folder, or a small one trained on the texts of the data source.

Byte-level BPE and deterministic: the same texts give the same file. Unknown words still encode, as bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer

from ..config import InstructXConfig
from ..data.source import EditSource, TextSource
from ..encoder.tokenizer import load_tokenizer, train_tokenizer
from ..errors import InputError


def tokenizer_texts(config: InstructXConfig, source: TextSource) -> Iterator[str]:
    """The prompt's own words, and the texts of the source."""
    rule = config.instruction
    yield from [rule.system_prompt, rule.reference_suffix, "system\n", "user\n", "assistant\n"] * 20
    yield from source.texts()


def run_tokenizer(output: Path, config: InstructXConfig, source: EditSource) -> Tokenizer:
    """Loads <output>/tokenizer.json, training it first when it is missing.

    Raises InputError when it is missing and `source` lists no texts.
    """
    path = output / "tokenizer.json"
    if not path.is_file():
        if not isinstance(source, TextSource):
            raise InputError(f"no {path}, and {source.name} lists no texts to train one on; put the model's there")
        output.mkdir(parents=True, exist_ok=True)
        partial = output / ".tokenizer.json"
        train_tokenizer(tokenizer_texts(config, source), config.mllm.vocab_size).save(str(partial))
        partial.replace(path)
    return load_tokenizer(path)
