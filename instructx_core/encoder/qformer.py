"""A Q-Former over the MLLM's last hidden states, design (b) of the study (paper 3.2): any length -> a fixed one.

BLIP-2's of transformers, its learned tokens and a linear layer into the DiT's width.
Legend: B batch, L tokens of the MLLM, Q tokens of the Q-Former, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import repeat
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from ..config import QFormerConfig

FREQUENCY = 2  # every second layer reads the states


class QFormer(nn.Module):
    """(B, L, in_dim) and which of the L are real -> (B, Q, out_dim). Tokens start as noise of std 0.02."""

    def __init__(self, config: QFormerConfig, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.tokens_QD = nn.Parameter(torch.randn(config.num_tokens, config.hidden_size) * 0.02)
        sizes = Blip2QFormerConfig(
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            intermediate_size=config.intermediate_size,
            encoder_hidden_size=in_dim,
            cross_attention_frequency=FREQUENCY,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.model: Any = Blip2QFormerModel(sizes)
        self.project = nn.Linear(config.hidden_size, out_dim)

    def forward(self, hidden_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        tokens_BQD = repeat(self.tokens_QD, "q d -> b q d", b=hidden_BLD.shape[0])
        read = self.model(
            query_embeds=tokens_BQD,
            encoder_hidden_states=hidden_BLD,
            encoder_attention_mask=mask_BL.long(),
            return_dict=True,
        )
        return self.project(read.last_hidden_state.to(self.project.weight.dtype))
