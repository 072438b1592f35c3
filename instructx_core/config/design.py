"""The four ways from instruction and pictures to the context of the DiT (paper 3.2, Fig. 3), and what they are made of.

`queries` is the paper's own and the only one that is not for the study alone. Sizes that the paper does not give are
those of the works that it names: umT5-XXL as in Wan2.1, the Q-Former of BLIP-2, the connector of MetaQuery.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Design = Literal["queries", "metaquery", "qformer", "t5"]
DESIGNS: dict[Design, str] = {
    "t5": "T5 alone: the instruction through Wan's own text encoder and text embedding (Fig. 3 a)",
    "qformer": "the MLLM's last hidden states through a Q-Former (Fig. 3 b)",
    "metaquery": "learnable queries, a frozen MLLM and a large connector (Fig. 3 c)",
    "queries": "learnable queries, a LoRA of the MLLM and a small MLP (Fig. 3 d): InstructX",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TextEncoderConfig:
    """UMT5 of `t5`. Defaults are umT5-XXL. Where hidden_size is not the DiT's text_dim, a linear layer widens it."""

    vocab_size: int = 256384
    hidden_size: int = 4096
    head_size: int = 64
    ffn_dim: int = 10240
    num_layers: int = 24
    num_heads: int = 64
    length: int = 512  # tokens that the DiT is given: zeros beyond the text, as Wan has them
    end_token: str = "</s>"  # behind every text; "": none


@dataclass(frozen=True, kw_only=True, slots=True)
class QFormerConfig:
    """Blip2QFormerModel of `qformer`; every second layer reads the MLLM's states."""

    num_tokens: int = 256
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_layers: int = 12
    num_heads: int = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class MetaQueryConfig:
    """The connector of `metaquery`, as wide as the MLLM: 1.611 B parameters in its layers beside Qwen2.5-VL-3B."""

    num_layers: int = 24
    num_heads: int = 32
    intermediate_size: int = 8192


@dataclass(frozen=True, kw_only=True, slots=True)
class DesignConfig:
    """kind: which of DESIGNS. mlp_layers: of the connector of `queries`. shared_queries: clips use the images' set."""

    kind: Design = "queries"
    mlp_layers: int = 2
    shared_queries: bool = False
    t5: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    qformer: QFormerConfig = field(default_factory=QFormerConfig)
    metaquery: MetaQueryConfig = field(default_factory=MetaQueryConfig)
