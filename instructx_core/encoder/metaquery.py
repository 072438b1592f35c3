"""The large connector of MetaQuery, design (c) of the study (paper 3.2): query features -> context, frozen MLLM.

A bidirectional transformer as wide as the MLLM, in the style of Qwen2 (RMS norms before each half, normed queries and
keys, rotary positions, SwiGLU), then Linear - GELU - Linear - RMS norm into the DiT's width.
Legend: B batch, Q queries, D width, N heads, K head dim.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from ..config import MetaQueryConfig

ROPE_THETA = 1e4
EPS = 1e-6


class MetaQueryConnector(nn.Module):
    """(B, Q, in_dim) -> (B, Q, out_dim)."""

    def __init__(self, config: MetaQueryConfig, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([ConnectorLayer(config, in_dim) for _ in range(config.num_layers)])
        self.norm = nn.RMSNorm(in_dim, eps=EPS)
        self.project = nn.Sequential(
            nn.Linear(in_dim, out_dim), nn.GELU(), nn.Linear(out_dim, out_dim), nn.RMSNorm(out_dim, eps=EPS)
        )
        self.head_dim = in_dim // config.num_heads

    def forward(self, query_BQD: Tensor) -> Tensor:
        rotation_QK = rotary_angles(query_BQD.shape[1], self.head_dim, query_BQD.device)
        for layer in self.layers:
            query_BQD = layer(query_BQD, rotation_QK)
        return self.project(self.norm(query_BQD))


class ConnectorLayer(nn.Module):
    """Attention in both directions, then SwiGLU, each added to what it read."""

    def __init__(self, config: MetaQueryConfig, width: int) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.attention_norm, self.mlp_norm = nn.RMSNorm(width, eps=EPS), nn.RMSNorm(width, eps=EPS)
        self.q_norm, self.k_norm = (nn.RMSNorm(width // config.num_heads, eps=EPS) for _ in "qk")
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width, bias=False) for _ in "qkvo")
        self.gate_proj, self.up_proj = (nn.Linear(width, config.intermediate_size, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(config.intermediate_size, width, bias=False)

    def forward(self, state_BQD: Tensor, rotation_QK: Tensor) -> Tensor:
        state_BQD = state_BQD + self._attend(self.attention_norm(state_BQD), rotation_QK)
        normed_BQD = self.mlp_norm(state_BQD)
        return state_BQD + self.down_proj(functional.silu(self.gate_proj(normed_BQD)) * self.up_proj(normed_BQD))

    def _attend(self, normed_BQD: Tensor, rotation_QK: Tensor) -> Tensor:
        def split(projected_BQD: Tensor) -> Tensor:
            return rearrange(projected_BQD, "b q (n k) -> b n q k", n=self.heads)

        query = rotate_heads(self.q_norm(split(self.q_proj(normed_BQD))), rotation_QK)
        key = rotate_heads(self.k_norm(split(self.k_proj(normed_BQD))), rotation_QK)
        mixed_BNQK = functional.scaled_dot_product_attention(query, key, split(self.v_proj(normed_BQD)))
        return self.o_proj(rearrange(mixed_BNQK, "b n q k -> b q (n k)"))


def rotary_angles(length: int, head_dim: int, device: torch.device) -> Tensor:
    """(Q, K / 2) fp32: positions times frequencies; computed on each call, so no buffer is rounded by a cast."""
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float32, device=device) / head_dim
    return torch.arange(length, dtype=torch.float32, device=device)[:, None] * ROPE_THETA**-exponent


def rotate_heads(state_BNQK: Tensor, angle_QK: Tensor) -> Tensor:
    """Rotary positions, halves of a head paired, in fp32."""
    first, second = state_BNQK.float().chunk(2, dim=-1)
    cos, sin = angle_QK.cos(), angle_QK.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(state_BNQK.dtype)
