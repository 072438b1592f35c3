"""The four designs of the study as encoders, and which one a config names (paper 3.2, Fig. 3).

context_encoder.py says what each of them does; (a) is in t5.py, (d), the paper's own, in model.py.
Legend: B batch, L tokens of the MLLM, Q queries, D width.
"""

from __future__ import annotations

import json

from diffusers import ModelMixin as ModelMixin  # DiffusionPipeline.from_pretrained looks here
from torch import Tensor, nn

from ..config import Design, InstructXConfig
from .context_encoder import ContextEncoder
from .inputs import EncoderInputs
from .metaquery import MetaQueryConnector
from .model import InstructXEncoder
from .qformer import QFormer
from .t5 import T5Encoder


class MetaQueryEncoder(InstructXEncoder):
    """(c): as ours, with a large connector; its config gives the MLLM no LoRA."""

    def make_connector(self, config: InstructXConfig) -> nn.Module:
        return MetaQueryConnector(config.design.metaquery, config.mllm.hidden_size, config.denoiser.context_dim)


class QFormerEncoder(InstructXEncoder):
    """(b): nothing is appended; what the MLLM says of the whole sequence goes through a Q-Former."""

    def make_connector(self, config: InstructXConfig) -> nn.Module:
        return QFormer(config.design.qformer, config.mllm.hidden_size, config.denoiser.context_dim)

    def forward(
        self, inputs: EncoderInputs, vision_BSD: Tensor | None = None, reference_vision_BSD: Tensor | None = None
    ) -> Tensor:
        """Context (B, Q, config.denoiser.context_dim)."""
        hidden_BLD = self.encode_hidden(inputs, vision_BSD, reference_vision_BSD)
        return self.connector(hidden_BLD, inputs.attention_mask_BL)


ENCODERS: dict[Design, type[ContextEncoder]] = {
    "t5": T5Encoder,
    "qformer": QFormerEncoder,
    "metaquery": MetaQueryEncoder,
    "queries": InstructXEncoder,
}


def build_encoder(config: InstructXConfig) -> ContextEncoder:
    """Random encoder of `config`, without LoRA layers. Works under torch.device("meta")."""
    return ENCODERS[config.design.kind](instructx=json.loads(config.to_json()))
