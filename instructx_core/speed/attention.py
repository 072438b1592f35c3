"""Our attention in diffusers: a processor for the self-attention of Wan's DiT, ours or stock.

Place in the data flow: between denoiser.py and kernels/. On the exact path it does what WanAttnProcessor does, to the
bit; on the int8 path norm, RoPE and quantisation are one pass from the projections. Cross-attention, masks and
context parallelism stay with the stock processor.
Legend: B batch, S tokens, H heads, D head dim.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import Tensor, nn

from ..errors import InputError
from ..kernels import MODES, NormRope, Session

if TYPE_CHECKING:
    from diffusers.models.attention_dispatch import AttentionBackendName
    from diffusers.models.transformers.transformer_wan import WanAttention

logger = logging.getLogger("instructx")


class InstructXAttnProcessor(WanAttnProcessor):
    """Self-attention through a `Session`; `set_attention_backend` still chooses what runs where our kernels do not."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """(B, S, width) -> (B, S, width). rotary_emb: cos, sin (1, S, 1, D), each value twice."""
        ours = rotary_emb is not None and attention_mask is None and encoder_hidden_states is None
        if not ours or getattr(self, "_parallel_config", None) is not None:
            return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)
        assert rotary_emb is not None
        if getattr(attn, "fused_projections", False):
            q, k, v = attn.to_qkv(hidden_states).chunk(3, dim=-1)
        else:
            q, k, v = attn.to_q(hidden_states), attn.to_k(hidden_states), attn.to_v(hidden_states)
        heads = (attn.heads, -1)
        v_BSHD = v.unflatten(2, heads)

        def finish() -> tuple[Tensor, Tensor]:
            normed = (attn.norm_q(q).unflatten(2, heads), attn.norm_k(k).unflatten(2, heads))
            return _rotate(normed[0], rotary_emb), _rotate(normed[1], rotary_emb)

        def stock(q_BSHD: Tensor, k_BSHD: Tensor) -> Tensor:
            return _dispatch(getattr(self, "_attention_backend", None), q_BSHD, k_BSHD, v_BSHD)

        out_BSHD = self.session.attend_projected(
            q.unflatten(2, heads),
            k.unflatten(2, heads),
            v_BSHD,
            _pending(attn, rotary_emb, q.device),
            finish,
            stock,
        )
        return attn.to_out[1](attn.to_out[0](out_BSHD.flatten(2).type_as(q)))


def _dispatch(backend: AttentionBackendName | None, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor) -> Tensor:
    """Attention by the user's diffusers backend; None is the default one."""
    return dispatch_attention_fn(q_BSHD, k_BSHD, v_BSHD, attn_mask=None, backend=backend)


def _rotate(x_BSHD: Tensor, rotary_emb: tuple[Tensor, Tensor]) -> Tensor:
    """Wan's RoPE on interleaved pairs, in the stock processor's order of operations."""
    even, odd = x_BSHD.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = rotary_emb[0][..., 0::2], rotary_emb[1][..., 1::2]
    out = torch.empty_like(x_BSHD)
    out[..., 0::2] = even * cos - odd * sin
    out[..., 1::2] = even * sin + odd * cos
    return out


def _pending(attn: WanAttention, rotary_emb: tuple[Tensor, Tensor], device: torch.device) -> NormRope | None:
    """Both norms and RoPE as a kernel reads them; None where it may not: weights elsewhere, or a wrapped module."""
    norm_q, norm_k = attn.norm_q, attn.norm_k
    if type(norm_q) is not nn.RMSNorm or type(norm_k) is not nn.RMSNorm or norm_q.eps is None:
        return None
    weights = (norm_q.weight, norm_k.weight)
    if norm_q.eps != norm_k.eps or any(weight is None or weight.device != device for weight in weights):
        return None  # offloaded weights arrive when the module is called, so it is called
    cos, sin = rotary_emb  # diffusers' (1, S, 1, D) tables; the kernels read views (S, D/2)
    if cos.ndim != 4 or cos.shape[0] != 1 or cos.shape[2] != 1 or cos.dtype != torch.float32:
        return None
    return NormRope(*weights, cos[0, :, 0, 0::2], sin[0, :, 0, 1::2], norm_q.eps)


def use_attention(model: nn.Module, mode: str = "auto", name: str | None = None) -> Session:
    """Give a Wan DiT our attention: "auto", "exact", "int8", or "off" for the stock processors. Returns its session.

    Self-attention processors that somebody else put there stay. name: for the log line. Raises InputError for an
    unknown mode or another model.
    """
    if mode not in MODES:
        raise InputError(f"attention {mode!r} is unknown; use one of {', '.join(MODES)}")
    layers = [block.attn1 for block in getattr(model, "blocks", []) if hasattr(block, "attn1")]
    if not layers:
        raise InputError(f"{type(model).__name__} has no Wan blocks; give a WanTransformer3DModel")
    session = Session(mode, name or type(model).__name__, _backend_name(layers[0]))
    for layer in layers:
        current = layer.processor
        if type(current) not in (WanAttnProcessor, InstructXAttnProcessor):
            logger.info("attention: a %s stays in place", type(current).__name__)
            continue
        if session.probe is None and getattr(current, "_attention_backend", None) is not None:
            session.probe = partial(_dispatch, current._attention_backend)
        made = WanAttnProcessor() if session.mode == "off" else InstructXAttnProcessor(session)
        for setting in ("_attention_backend", "_parallel_config"):
            if hasattr(current, setting):
                setattr(made, setting, getattr(current, setting))
        layer.set_processor(made)
    return session


def session_of(model: nn.Module) -> Session | None:
    """The session that `use_attention` made for this model; None where it has stock attention."""
    for block in getattr(model, "blocks", []):
        processor = getattr(getattr(block, "attn1", None), "processor", None)
        if isinstance(processor, InstructXAttnProcessor):
            return processor.session
    return None


def _backend_name(layer: nn.Module) -> str:
    backend = getattr(layer.processor, "_attention_backend", None)
    return "pytorch SDPA" if backend is None else f"diffusers {getattr(backend, 'value', backend)}"
