"""The host's own Qwen2.5 vocabulary, for artists whose encoder is a single file: ids as transformers gives them."""

from __future__ import annotations

from pathlib import Path

from instructx_core.encoder.tokenizer import encode_plain, load_tokenizer, token_id

TEXTS = (
    "make the circle blue",
    "Remove the person on the left, don't touch 3 dogs!",
    "让它变成蓝色 \n\n  x",
    "café é naïve",
)


def test_ids_are_those_of_transformers(comfy: Path) -> None:
    from transformers import AutoTokenizer

    folder = comfy / "comfy" / "text_encoders" / "qwen25_tokenizer"
    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(str(folder))
    for text in TEXTS:
        assert encode_plain(ours, text) == theirs(text)["input_ids"]
    for token, index in {"<|endoftext|>": 151643, "<|object_ref_start|>": 151646, "<|video_pad|>": 151656}.items():
        assert token_id(ours, token) == index
