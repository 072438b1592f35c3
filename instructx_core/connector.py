"""Connector between the two halves of the model (paper 3.1): two-layer MLP, query features -> cross-attention context.

query_BQD (MLLM width) -> context_BLD (DiT width). The DiT's own text embedding is bypassed, so no T5 is needed.
Keys are `0.weight 0.bias 2.weight 2.bias`, as in the public model of this design (Kiwi-Edit).
Legend: B batch, Q queries, L context tokens (= Q, or Q plus reference tokens), D width.
"""

from __future__ import annotations

from torch import nn


class Connector(nn.Sequential):
    """Linear - GELU(tanh) - Linear, (B, Q, in_dim) -> (B, Q, out_dim).

    zero_init: last layer starts at zero, as Kiwi-Edit trains it; the paper does not say. layers: of Linear; the paper
    has two.
    """

    def __init__(self, in_dim: int, out_dim: int, zero_init: bool = False, layers: int = 2) -> None:
        modules: list[nn.Module] = [nn.Linear(in_dim, out_dim)]  # in this order: a seed gives the same weights
        for _ in range(layers - 1):
            modules += [nn.GELU(approximate="tanh"), nn.Linear(out_dim, out_dim)]
        super().__init__(*modules)
        if zero_init:
            for parameter in self[-1].parameters():
                nn.init.zeros_(parameter)
