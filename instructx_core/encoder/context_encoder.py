"""What the pipeline, training and the study ask of an encoder, whichever way it goes to the context (paper 3.2).

`encode(frames, instructions, references) -> context_BLD, mask_BL`, in two steps where who calls it does one of them
himself: `prepare` -> inputs, forward -> context. Designs are subclasses: model.py (ours), designs.py has the others.
Legend: B batch, L rows of the context, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from diffusers import ConfigMixin, ModelMixin
from torch import Tensor, nn

from ..config import InstructXConfig, LoraConfig
from ..geometry import mllm_grid
from .pictures import Pictures
from .positions import Grid

Self = TypeVar("Self", bound="PreparedInputs")


class PreparedInputs(Protocol):
    """What a forward takes, on the CPU at first."""

    def to(self: Self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self: ...


class ContextEncoder(ModelMixin, ConfigMixin):
    """sees_pictures: whether it looks at source and references, so that training keeps vision features for it.

    Modules are None, and queries empty, where the design has none.
    """

    sees_pictures: ClassVar[bool] = True
    instructx: InstructXConfig
    mllm: Any  # Qwen2.5-VL
    text_encoder: nn.Module | None
    queries: nn.ParameterDict
    connector: nn.Module | None
    reference_connector: nn.Module | None

    def grid_of(self, frames: int, height: int, width: int, kind: str) -> Grid:
        """Patch grid of a clip or picture in this model; see geometry.mllm_grid."""
        return mllm_grid(frames, height, width, self.instructx, kind)

    def prepare(
        self,
        tokenizer: Any,
        instructions: Sequence[str],
        frames: Sequence[Tensor],
        references: Sequence[Sequence[Tensor]] | None = None,
        fps: float | None = None,
    ) -> Any:
        """Inputs of B edits; arguments and errors as of inputs.py::prepare_inputs."""
        raise NotImplementedError

    def prepare_texts(self, tokenizer: Any, instructions: Sequence[str], pictures: Pictures) -> Any:
        """Inputs of B edits whose pictures were encoded before; "" is the instruction of guidance."""
        raise NotImplementedError

    def without_instruction(self, tokenizer: Any, inputs: Any) -> Any:
        """The unconditional branch of guidance: the same pictures, no instruction."""
        raise NotImplementedError

    def context_mask(self, inputs: Any) -> Tensor:
        """(B, L) bool, False at rows that stand for nothing. Wan attends to those as well, as it was trained to."""
        raise NotImplementedError

    @torch.no_grad()
    def encode(
        self,
        tokenizer: Any,
        frames: Sequence[Tensor],
        instructions: Sequence[str],
        references: Sequence[Sequence[Tensor]] | None = None,
        fps: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Context (B, L, config.denoiser.context_dim) of B edits and its mask; see `prepare`."""
        inputs = self.prepare(tokenizer, instructions, frames, references, fps).to(self.device, self.dtype)
        return self(inputs), self.context_mask(inputs)

    def add_lora(self, lora: LoraConfig) -> None:
        """Adds LoRA layers, where the design has any."""

    def merge_lora(self) -> None:
        """Folds LoRA layers into the weights."""

    def lora_state_dict(self) -> dict[str, Tensor]:
        """LoRA tensors by name, without the adapter name."""
        return {}
