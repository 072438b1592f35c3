"""A small UMT5 that stands in for umT5-XXL while the tiny DiT learns to generate from captions.

Its features (4096 wide, zero beyond the caption, as Wan pads them) go through the DiT's own text_embedding. Later it is
design (a) of the study, "diffusion only". Legend: B batch, L tokens, D 4096.
"""

from __future__ import annotations

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..encoder.tokenizer import encode_plain
from ..errors import InputError

TEXT_LENGTH = 48  # tokens; Wan pads to 512
WIDTH = 128


class TextEncoder(nn.Module):
    def __init__(self, vocab_size: int, text_dim: int) -> None:
        super().__init__()
        from transformers import UMT5Config, UMT5EncoderModel

        self.model = UMT5EncoderModel(
            UMT5Config(
                vocab_size=vocab_size,
                d_model=WIDTH,
                d_kv=32,
                d_ff=2 * WIDTH,
                num_layers=2,
                num_heads=4,
                dropout_rate=0.0,
            )
        )
        self.widen = nn.Linear(WIDTH, text_dim, bias=False)

    def forward(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """(B, L, text_dim), zero at pads."""
        hidden_BLD = self.model(input_ids=ids_BL, attention_mask=mask_BL.long()).last_hidden_state
        return self.widen(hidden_BLD) * mask_BL.unsqueeze(-1)


def tokenize(tokenizer: Tokenizer, texts: list[str], length: int = TEXT_LENGTH) -> tuple[Tensor, Tensor]:
    """ids_BL and mask_BL (bool), padded to `length`. Raises InputError for a longer text."""
    rows = [encode_plain(tokenizer, text) for text in texts]
    longest = max(map(len, rows))
    if longest > length:
        raise InputError(f"a caption has {longest} tokens, at most {length} are read; give shorter captions")
    ids_BL = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    lengths_B = torch.tensor([len(row) for row in rows])
    return ids_BL, torch.arange(length)[None] < lengths_B[:, None]
