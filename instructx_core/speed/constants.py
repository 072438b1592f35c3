"""What stays the same in every step of one edit is computed once: embedded source and references, keys and values.

Between sampling/denoise.py and the DiT. A value belongs to the very tensor it was made of (same object, not written to
since), so a callback that replaces or changes a tensor is followed. Results are equal bit for bit: the same operations
on the same inputs, fewer times. Compiled models compute everything in each step: a graph cannot look into this store.
Legend: B batch, L context tokens, N heads, D head dim.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import Tensor, nn

if TYPE_CHECKING:
    from diffusers.models.transformers.transformer_wan import WanAttention

    from ..denoiser import InstructXTransformer3DModel

Value = TypeVar("Value")

# Keys and values cost L / (6 x tokens) of a block's linear layers: kept where that is 1 % or more, because they take
# memory (Wan 14B, 512 queries: 419 MB).
_TOKENS_PER_CONTEXT = 16


class Constants:
    """Values by name and by the tensor they were made of; two a name, for the two branches of guidance."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, list[tuple[Tensor, int, Any]]] = {}  # name -> (made of, its version, value)

    def get(self, name: Hashable, source: Tensor, make: Callable[[], Value]) -> Value:
        """make(), or what it gave before for this very `source`, unless that was written to since."""
        version = 0 if source.is_inference() else source._version
        kept = self._kept.setdefault(name, [])
        for known, at, value in kept:
            if known is source and at == version:
                return value
        kept.append((source, version, make()))
        del kept[:-2]
        return kept[-1][2]


class ContextAttnProcessor(WanAttnProcessor):
    """Wan's cross-attention with the context's keys and values taken from a store; otherwise the stock processor."""

    def __init__(self, stock: WanAttnProcessor, constants: Constants) -> None:
        super().__init__()
        self.constants = constants
        self._attention_backend, self._parallel_config = stock._attention_backend, stock._parallel_config

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """(B, S, width) -> (B, S, width)."""
        context_BLD = encoder_hidden_states
        tokens = hidden_states.shape[1]
        if context_BLD is None or rotary_emb is not None or tokens > _TOKENS_PER_CONTEXT * context_BLD.shape[1]:
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)

        def project() -> tuple[Tensor, Tensor]:
            key_BLND = attn.norm_k(attn.to_k(context_BLD)).unflatten(2, (attn.heads, -1))
            return key_BLND, attn.to_v(context_BLD).unflatten(2, (attn.heads, -1))

        key_BLND, value_BLND = self.constants.get(attn, context_BLD, project)
        query_BSND = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        out_BSND = dispatch_attention_fn(
            query_BSND, key_BLND, value_BLND, attn_mask=attention_mask, backend=self._attention_backend
        )
        return attn.to_out[1](attn.to_out[0](out_BSND.flatten(2, 3).type_as(query_BSND)))


def is_compiled(model: nn.Module) -> bool:
    """True for a model that torch.compile wrapped, or that it compiled in place, whole or in part."""
    if hasattr(model, "_orig_mod"):
        return True
    return any(getattr(module, "_compiled_call_impl", None) is not None for module in model.modules())


@contextmanager
def constants_of(model: InstructXTransformer3DModel) -> Iterator[Constants | None]:
    """Inside, `model` computes constants once. Its weights must not change meanwhile. None where that cannot be done.

    Cross-attention with a processor of somebody else, fused projections or hooks on its projections stays as it is.
    """
    if torch.is_grad_enabled() or is_compiled(model):
        yield None
        return
    store, before = Constants(), []
    model.constants = store
    for block in model.blocks:
        attn: Any = block.attn2  # torch types every module below another as Tensor or Module
        plain = type(attn.processor) is WanAttnProcessor and not getattr(attn, "fused_projections", False)
        if plain and attn.add_k_proj is None and not hasattr(attn.to_k, "_diffusers_hook"):
            before.append((attn, attn.processor))
            attn.processor = ContextAttnProcessor(attn.processor, store)
    try:
        yield store
    finally:
        model.constants = None
        for attn, processor in before:
            attn.processor = processor
