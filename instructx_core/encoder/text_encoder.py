"""UMT5, the text encoder that Wan was trained with: instructions or captions -> features for its text embedding.

The tiny DiT learns captions with a small one (training/jobs/text_to_video.py); design (a) of the study, "diffusion
only", edits with it (t5.py). Features are zero beyond the text, as Wan pads them.
Legend: B batch, L tokens, D the DiT's text_dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..config import TextEncoderConfig
from ..errors import InputError
from .tokenizer import backend, encode_plain


class TextEncoder(nn.Module):
    """UMT5EncoderModel, and a linear layer where it is narrower than what the DiT takes."""

    def __init__(self, config: TextEncoderConfig, text_dim: int) -> None:
        super().__init__()
        from transformers import UMT5Config, UMT5EncoderModel

        self.model: Any = UMT5EncoderModel(
            UMT5Config(
                vocab_size=config.vocab_size,
                d_model=config.hidden_size,
                d_kv=config.head_size,
                d_ff=config.ffn_dim,
                num_layers=config.num_layers,
                num_heads=config.num_heads,
                dropout_rate=0.0,
            )
        )
        widens = config.hidden_size != text_dim
        self.widen = nn.Linear(config.hidden_size, text_dim, bias=False) if widens else nn.Identity()

    def forward(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """(B, L, text_dim), zero at pads."""
        hidden_BLD = self.model(input_ids=ids_BL, attention_mask=mask_BL.long()).last_hidden_state
        return self.widen(hidden_BLD) * mask_BL.unsqueeze(-1)


def tokenize(tokenizer: Any, texts: Sequence[str], config: TextEncoderConfig) -> tuple[Tensor, Tensor]:
    """ids_BL and mask_BL (bool), padded to the config's length. Raises InputError for a longer text."""
    end = [backend(tokenizer).token_to_id(config.end_token)] if config.end_token else []
    if None in end:
        raise InputError(f"the tokenizer has no {config.end_token}; use the one of umT5-XXL")
    rows = [[*encode_plain(tokenizer, text), *end] for text in texts]
    longest = max(map(len, rows))
    if longest > config.length:
        raise InputError(f"a text has {longest} tokens, at most {config.length} are read; give shorter ones")
    ids_BL = torch.tensor([row + [0] * (config.length - len(row)) for row in rows])
    lengths_B = torch.tensor([len(row) for row in rows])
    return ids_BL, torch.arange(config.length)[None] < lengths_B[:, None]
