"""Attention by torch alone, in the layout and with the arguments of our kernels: the fallback and the backward pass.

Place in the data flow: `exact.py` recomputes with it for gradients, `session.py` and `__init__.py` use it wherever our
kernels do not run. Any device, dtype, head dim and length.
Legend: B batch, S tokens, H heads, D head dim; a second segment of keys and values follows the first.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_LSE_ROWS = 1024  # queries of which the logits are held at a time


def join(first_BSHD: Tensor, second_BSHD: Tensor | None) -> Tensor:
    """Both segments as one tensor; the first itself where there is no second."""
    return first_BSHD if second_BSHD is None else torch.cat((first_BSHD, second_BSHD), dim=1)


def attention(
    q_BSHD: Tensor,
    k_BSHD: Tensor,
    v_BSHD: Tensor,
    scale: float,
    key_bias: Tensor | None = None,
    extra_k: Tensor | None = None,
    extra_v: Tensor | None = None,
) -> Tensor:
    """(B, Sq, H, D) through torch's scaled_dot_product_attention, with whatever backend torch chooses.

    key_bias: (B, 1 or H, Skv + Skv2), added to the logits.
    """
    k_BSHD, v_BSHD = join(k_BSHD, extra_k), join(v_BSHD, extra_v)
    mask = None if key_bias is None else key_bias[:, :, None].to(q_BSHD.dtype)
    q_BHSD, k_BHSD, v_BHSD = (part.transpose(1, 2) for part in (q_BSHD, k_BSHD, v_BSHD))
    return functional.scaled_dot_product_attention(q_BHSD, k_BHSD, v_BHSD, mask, scale=scale).transpose(1, 2)


def log_sum_exp(
    q_BSHD: Tensor, k_BSHD: Tensor, scale: float, key_bias: Tensor | None = None, extra_k: Tensor | None = None
) -> Tensor:
    """(B, H, Sq) float32: natural log of the sum over the keys of exp(scale q.k + bias)."""
    k_BHDS = join(k_BSHD, extra_k).float().permute(0, 2, 3, 1)
    parts = []
    for rows in q_BSHD.float().transpose(1, 2).split(_LSE_ROWS, dim=2):
        logits = rows @ k_BHDS * scale
        parts.append(torch.logsumexp(logits if key_bias is None else logits + key_bias[:, :, None].float(), dim=-1))
    return torch.cat(parts, dim=2)


def attention_lse(
    q_BSHD: Tensor,
    k_BSHD: Tensor,
    v_BSHD: Tensor,
    scale: float,
    key_bias: Tensor | None = None,
    extra_k: Tensor | None = None,
    extra_v: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention and its log-sum-exp, (B, Sq, H, D) and (B, H, Sq); differentiable."""
    out = attention(q_BSHD, k_BSHD, v_BSHD, scale, key_bias, extra_k, extra_v)
    return out, log_sum_exp(q_BSHD, k_BSHD, scale, key_bias, extra_k)
