"""Our attention inside a host that lets a model override its attention function (ComfyUI's transformer_options).

Place in the data flow: the Attention node puts an `AttentionOverride` where the host looks for one; every attention of
that model then comes here, after norm and RoPE. What is not ours goes on to the override that was there before, else to
the host's own function. Pure: imports nothing of the host.
Legend: B batch, S tokens, H heads, D head dim. The host's layouts: (B, S, H*D), or (B, H, S, D) with skip_reshape.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .operands import Inputs
from .select import HOST, Route
from .session import Session

logger = logging.getLogger("instructx")

KEY = "optimized_attention_override"


class AttentionOverride:
    """Callable of the host: (its function, q, k, v, heads, ...) -> attention in the host's layout."""

    def __init__(self, session: Session, previous: Callable[..., Tensor] | None = None) -> None:
        """previous: the override that was installed before; it gets the calls that are not ours."""
        self.session, self.previous = session, previous

    def __deepcopy__(self, memo: dict[int, Any]) -> AttentionOverride:
        return self  # hosts copy a model's options for every clone; the session belongs to all of them

    def __call__(self, func: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        def host() -> Tensor:
            return func(*args, **kwargs) if self.previous is None else self.previous(func, *args, **kwargs)

        if self.session.probe is None and not torch.compiler.is_compiling():
            self.session.probe = self._probe(func)
        return self._attend(host, *args, **kwargs)

    def _probe(self, func: Callable[..., Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        def host(q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor) -> Tensor:
            parts = (q_BSHD.flatten(2), k_BSHD.flatten(2), v_BSHD.flatten(2))
            heads = q_BSHD.shape[2]
            return func(*parts, heads) if self.previous is None else self.previous(func, *parts, heads)

        return host

    def _attend(
        self,
        host: Callable[[], Tensor],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        heads: int,
        mask: Tensor | None = None,
        attn_precision: torch.dtype | None = None,
        skip_reshape: bool = False,
        skip_output_reshape: bool = False,
        low_precision_attention: bool = True,
        scale: float | None = None,
        **others: Any,
    ) -> Tensor:
        problem = _not_ours(q, k, mask, attn_precision, skip_reshape, others)
        if problem is not None:
            if not torch.compiler.is_compiling():
                self.session.count(Route(HOST, problem), q.device)
            return host()
        parts = [
            part.transpose(1, 2) if skip_reshape else part.unflatten(-1, (heads, part.shape[-1] // heads))
            for part in (q, k, v)
        ]
        as_host: list[Tensor] = []

        def from_host() -> Tensor:
            as_host.append(host())
            return parts[0]  # a stand-in: the host's result already has the host's layout

        inputs = Inputs.of(*parts, scale)
        out_BSHD = self.session.attend(inputs, low_precision=low_precision_attention is not False, host=from_host)
        if as_host:
            return as_host[0]
        return out_BSHD.transpose(1, 2) if skip_output_reshape else out_BSHD.flatten(2)


def _not_ours(
    q: Tensor, k: Tensor, mask: Tensor | None, attn_precision: torch.dtype | None, skip_reshape: bool, others: Any
) -> str | None:
    """Why a call stays with the host whatever the card can do; None when it may be ours."""
    if mask is not None:
        return "attention mask"
    if attn_precision == torch.float32 and q.dtype != torch.float32:
        return "the host asks for float32 here"
    if others.get("enable_gqa"):
        return "grouped queries"
    if q.ndim != (4 if skip_reshape else 3) or q.shape != k.shape:
        return "not self-attention"
    return None


def install(options: dict[str, Any], session: Session) -> dict[str, Any]:
    """A copy of a model's transformer_options with our override on top of the one that was there.

    Ours is replaced, not stacked; mode "off" takes it away.
    """
    previous = options.get(KEY)
    if isinstance(previous, AttentionOverride):
        previous = previous.previous
    changed = {name: value for name, value in options.items() if name != KEY}
    if session.mode != "off":
        changed[KEY] = AttentionOverride(session, previous)
    elif previous is not None:
        changed[KEY] = previous
    return changed


def exact_on_failure(session: Session, executor: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """One forward of the model; if its output is not finite after int8 attention, once more with exact attention.

    The model stays exact from then on, and one warning says so.
    """
    out = executor(*args, **kwargs)
    if not isinstance(out, Tensor) or not session.inexact or bool(torch.isfinite(out).all()):
        return out
    if session.demote("the model's output was not finite with int8 attention"):
        logger.warning("attention of %s: %s; the step is repeated exactly", session.name, session.demoted)
    return executor(*args, **kwargs)
