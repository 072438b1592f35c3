"""Tokenizers: load one, train a small one, and encode text so that a user can never write a special token.

Data flow: instruction text -> token ids (prompt.py puts them into the sequence). The 26 special strings are Qwen's;
their ids are always looked up in the tokenizer at hand, so the 152k vocabulary and the shipped one run the same code.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from ..config import InstructXConfig
from ..errors import InputError

SPECIAL_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"),
    *("<tool_call>", "</tool_call>"),
    *("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
    *("<tool_response>", "</tool_response>", "<think>", "</think>"),
)

QUERY_TOKEN = "<|object_ref_start|>"  # where the queries stand

# Word splitting of Qwen2's tokenizer.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _qwen_style(model: models.BPE) -> Tokenizer:
    """A tokenizer around `model` that splits and normalises text as Qwen2's does."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _add_special(tokenizer: Tokenizer, tokens: tuple[str, ...]) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE in Qwen's style: any unicode text encodes, there is no unknown token.

    vocab_size is the upper bound of the whole vocabulary, special tokens included (they get the last ids).
    Raises InputError when it cannot hold the 256 bytes and the special tokens.
    """
    least = 256 + len(SPECIAL_TOKENS)
    if vocab_size < least:
        raise InputError(f"vocab_size is {vocab_size}; 256 bytes and {len(SPECIAL_TOKENS)} special tokens need {least}")
    tokenizer = _qwen_style(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _add_special(tokenizer, SPECIAL_TOKENS)


def load_tokenizer(path: str | Path, of_mllm: bool = True) -> Tokenizer:
    """Reads a tokenizer.json, or a folder that holds one, or a folder with Qwen2.5's vocab.json and merges.txt.

    Raises InputError when it is missing or, of an MLLM, not Qwen's kind.
    """
    file = Path(path)
    if file.is_dir():
        vocabulary, merges = file / "vocab.json", file / "merges.txt"
        file = file / "tokenizer.json"
        if not file.is_file() and vocabulary.is_file() and merges.is_file():
            # these files lack the special tokens; the ids of Qwen2.5-VL follow the vocabulary in this order
            return _add_special(_qwen_style(models.BPE.from_file(str(vocabulary), str(merges))), SPECIAL_TOKENS[:22])
    if not file.is_file():
        raise InputError(f"no tokenizer at {file}; give a tokenizer.json or the folder that holds it")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 - the Rust side raises nothing narrower
        raise InputError(f"{file} is not a tokenizer.json: {error}") from None
    if of_mllm:
        token_id(tokenizer, QUERY_TOKEN)
    return tokenizer


def check_special_tokens(tokenizer: Any, config: InstructXConfig) -> None:
    """Raises InputError where a model with an MLLM has no tokenizer of Qwen's kind."""
    if config.design.kind != "t5":
        token_id(tokenizer, QUERY_TOKEN)


def backend(tokenizer: Any) -> Tokenizer:
    """The tokenizers.Tokenizer inside a transformers fast tokenizer, or the object itself.

    Raises InputError for a tokenizer without one (a slow transformers tokenizer).
    """
    inner = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not isinstance(inner, Tokenizer):
        raise InputError(
            f"{type(tokenizer).__name__} has no fast backend; use Qwen2TokenizerFast, PreTrainedTokenizerFast or "
            "a tokenizers.Tokenizer (instructx_core.encoder.tokenizer.load_tokenizer)"
        )
    if inner.padding is not None:  # left behind by an earlier padded call; ids must be those of the text alone
        inner.no_padding()
    if inner.truncation is not None:
        inner.no_truncation()
    return inner


def token_id(tokenizer: Any, token: str) -> int:
    """Id of a special token. Raises InputError when the vocabulary lacks it."""
    found = backend(tokenizer).token_to_id(token)
    if found is None:
        raise InputError(
            f"the tokenizer has no {token}; use the tokenizer of Qwen2.5-VL or the one shipped with the model"
        )
    return found


@lru_cache(maxsize=16)
def _special_pattern(tokens: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("(?=" + "|".join(re.escape(token) for token in tokens) + ")")


def encode_plain(tokenizer: Any, text: str) -> list[int]:
    """Token ids of text in which every special token string is ordinary characters.

    The text is cut after the first character of each such string, so no piece can hold one; text without special
    strings is encoded in one piece, exactly as the tokenizer would. Stateless: safe with a shared tokenizer.
    """
    inner = backend(tokenizer)
    added = inner.get_added_tokens_decoder()
    text = unicodedata.normalize("NFC", text)  # what the tokenizer does first; done here so that cuts are final
    strings = tuple(token.content for token in added.values() if len(token.content) > 1)
    cuts = [match.start() + 1 for match in _special_pattern(strings).finditer(text)] if strings else []
    ids: list[int] = []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        ids += inner.encode(text[start:end], add_special_tokens=False).ids
    for index in ids:
        if index in added:
            raise InputError(f"the text contains the special token {added[index].content}; remove it")
    return ids
