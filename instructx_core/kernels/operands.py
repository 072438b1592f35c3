"""What an attention is given, and how it becomes fields of a kernel's argument struct (abi.py): pointers, byte strides.

Place in the data flow: `Inputs` goes from session.py through select.py to an op; the rest serves exact.py and int8.py.
Legend: B batch, S tokens, H heads, D head dim.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import abi
from .errors import KernelError

DTYPES = {torch.bfloat16: "bf16", torch.float16: "f16"}


class Inputs(NamedTuple):
    """What every attention takes, in the order of the ops' arguments: q (B, Sq, H, D), k and v (B, Skv, H, D).

    key_bias (B, 1 or H, Skv + Skv2) is added to the logits. extra_k, extra_v (B, Skv2, H, D): a second segment of keys.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    scale: float
    key_bias: Tensor | None = None
    extra_k: Tensor | None = None
    extra_v: Tensor | None = None

    @classmethod
    def of(cls, q: Tensor, k: Tensor, v: Tensor, scale: float | None = None, **others: Tensor | None) -> Inputs:
        """With the usual scale, D ** -0.5, unless one is given."""
        return cls(q, k, v, default_scale(q) if scale is None else scale, **others)


class NormRope(NamedTuple):
    """What projections still lack: RMSNorm across heads (weights (H*D,)) and RoPE (cos, sin (S, D/2) float32)."""

    norm_q: Tensor | None
    norm_k: Tensor | None
    cos: Tensor | None
    sin: Tensor | None
    eps: float

    def with_weights_as(self, dtype: torch.dtype) -> NormRope:
        """The norms' weights in the activations' number format; the tables stay float32."""
        norm_q, norm_k = (None if weight is None else weight.to(dtype) for weight in self[:2])
        return self._replace(norm_q=norm_q, norm_k=norm_k)


NO_NORM_NO_ROPE = NormRope(None, None, None, None, 1e-6)


def default_scale(q: Tensor) -> float:
    """D ** -0.5, of logits q.k."""
    return q.shape[-1] ** -0.5


def aligned(tensor_BSHD: Tensor) -> Tensor:
    """The view itself where the kernels can read it (contiguous last dim, 16-byte rows), else a contiguous copy."""
    size = tensor_BSHD.element_size()
    strides = [s for s, n in zip(tensor_BSHD.stride()[:-1], tensor_BSHD.shape[:-1], strict=True) if n > 1]
    rows = all(stride * size % abi.ROW_ALIGNMENT == 0 for stride in strides)
    if tensor_BSHD.stride(-1) == 1 and rows and tensor_BSHD.data_ptr() % abi.ROW_ALIGNMENT == 0:
        return tensor_BSHD
    return tensor_BSHD.contiguous()


def pointer(tensor: Tensor | None) -> int | None:
    """Null for a missing or empty tensor."""
    return None if tensor is None or tensor.numel() == 0 else tensor.data_ptr()


def set_views(arguments: ctypes.Structure, **views: Tensor | None) -> None:
    """Pointer and byte strides of [B, S, H, D] tensors; a missing one stays null."""
    for name, view in views.items():
        if view is None or view.numel() == 0:
            continue
        setattr(arguments, name, view.data_ptr())
        for axis, stride in zip(("sb", "ss", "sh"), view.stride()[:3], strict=True):
            setattr(arguments, f"{name}_{axis}", stride * view.element_size())


def set_rope(arguments: Any, cos: Tensor | None, sin: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """cos, sin (S, D/2) or (B, S, D/2), any strides: e.g. every second of repeated pairs. Gives what must outlive."""
    if cos is None or sin is None:
        return None
    cos, sin = cos.float(), sin.float()
    if cos.stride() != sin.stride():
        cos, sin = cos.contiguous(), sin.contiguous()
    arguments.cos, arguments.sin = cos.data_ptr(), sin.data_ptr()
    strides = [stride * cos.element_size() for stride in cos.stride()]
    arguments.rope_sb = strides[0] if cos.ndim == 3 and cos.shape[0] > 1 else 0
    arguments.rope_ss, arguments.rope_se = strides[-2:]
    return cos, sin


def check(q: Tensor, *others: Tensor | None) -> None:
    """Raises KernelError for a dtype or head dim without a kernel, and for tensors that do not belong together."""
    if q.dtype not in DTYPES:
        raise KernelError(f"{q.dtype} is not supported, only bfloat16 and float16")
    if q.shape[-1] not in abi.HEAD_DIMS:
        raise KernelError(f"head dim {q.shape[-1]} is not supported, only 64 and 128")
    for other in others:
        if other is not None and (other.dtype != q.dtype or other.device != q.device):
            raise KernelError("q, k and v differ in dtype or device")
