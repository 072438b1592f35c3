"""Design (a) of the study: the instruction alone, through UMT5 and Wan's own text embedding (paper 3.2, A.8).

"Diffusion only": source and references reach the DiT as latents and nothing else. No MLLM is built.
Legend: B batch, L tokens, D the DiT's text_dim.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from ..config import InstructXConfig
from ..errors import InputError
from ..instruction import check_instruction
from .context_encoder import ContextEncoder
from .pictures import Pictures
from .text_encoder import TextEncoder, tokenize


@dataclass(frozen=True, slots=True)
class TextInputs:
    """B instructions, padded to one length."""

    ids_BL: Tensor
    mask_BL: Tensor  # bool, False at pads

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> TextInputs:
        """Copy on `device`; there is nothing that could have another dtype."""
        return TextInputs(self.ids_BL.to(device), self.mask_BL.to(device))


class T5Encoder(ContextEncoder):
    """text_encoder: UMT5. Arguments as of InstructXEncoder; there is no LoRA."""

    sees_pictures: ClassVar[bool] = False

    @register_to_config
    def __init__(self, instructx: dict[str, Any], lora: bool = False) -> None:
        super().__init__()
        self.instructx = InstructXConfig.from_json(json.dumps(instructx))
        self.mllm = self.connector = self.reference_connector = None
        self.queries = nn.ParameterDict()
        self.text_encoder = TextEncoder(self.instructx.design.t5, self.instructx.denoiser.text_dim)

    def prepare(
        self,
        tokenizer: Any,
        instructions: Sequence[str],
        frames: Sequence[Tensor],
        references: Sequence[Sequence[Tensor]] | None = None,
        fps: float | None = None,
    ) -> TextInputs:
        """Pictures are not looked at; see ContextEncoder."""
        if isinstance(instructions, str) or len(frames) != len(instructions):
            raise InputError(f"{len(frames)} clips for the instructions {instructions!r}; give a list with one each")
        for text in instructions:
            check_instruction(text)
        return self._inputs(tokenizer, instructions)

    def prepare_texts(self, tokenizer: Any, instructions: Sequence[str], pictures: Pictures) -> TextInputs:
        return self._inputs(tokenizer, instructions)

    def without_instruction(self, tokenizer: Any, inputs: TextInputs) -> TextInputs:
        return self._inputs(tokenizer, [""] * len(inputs.ids_BL)).to(inputs.ids_BL.device)

    def _inputs(self, tokenizer: Any, instructions: Sequence[str]) -> TextInputs:
        return TextInputs(*tokenize(tokenizer, instructions, self.instructx.design.t5))

    def context_mask(self, inputs: TextInputs) -> Tensor:
        return inputs.mask_BL

    def forward(self, inputs: TextInputs, *vision: Tensor | None) -> Tensor:
        """Features (B, L, text_dim), zero at pads. vision: of designs that look at pictures; not read."""
        return self.text_encoder(inputs.ids_BL, inputs.mask_BL)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Raises InputError: UMT5 has one tensor under two names, which diffusers does not write."""
        raise InputError("the design t5 is saved by instructx_core.weights.save_checkpoint, not by save_pretrained")
