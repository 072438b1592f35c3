"""What an attention is given, and how it becomes fields of a kernel's argument struct (abi.py): pointers, byte strides.

Place in the data flow: `Inputs` goes from session.py through select.py to an op; the rest serves exact.py and int8.py.
Legend: B batch, S tokens, H heads, D head dim.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import abi
from .errors import Refusal

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


def align(tensor_BSHD: Tensor) -> Tensor:
    """The view itself where the kernels can read it (contiguous last dim, 16-byte rows), else a contiguous copy."""
    size = tensor_BSHD.element_size()
    strides = [s for s, n in zip(tensor_BSHD.stride()[:-1], tensor_BSHD.shape[:-1], strict=True) if n > 1]
    rows = all(stride * size % abi.ROW_ALIGNMENT == 0 for stride in strides)
    if tensor_BSHD.stride(-1) == 1 and rows and tensor_BSHD.data_ptr() % abi.ROW_ALIGNMENT == 0:
        return tensor_BSHD
    # Not contiguous(): that gives a contiguous view back as it is, wherever in its storage it begins.
    return tensor_BSHD.clone(memory_format=torch.contiguous_format)


def pack(name: str, tensor: Tensor, dtype: torch.dtype, device: torch.device, shape: tuple[int, ...]) -> Tensor:
    """A small operand (weights, scales, shifts) as the kernels read it: contiguous, 16-byte aligned. Copies if it must.

    Raises Refusal for another dtype, device or shape: the kernel would read past its end.
    """
    if tensor.dtype != dtype or tensor.device != device or tuple(tensor.shape) != shape:
        raise Refusal(f"{name} is {_words(tensor)}; the kernels read {dtype} {shape} on {device}")
    if tensor.is_contiguous() and tensor.data_ptr() % abi.ROW_ALIGNMENT == 0:
        return tensor
    return tensor.clone(memory_format=torch.contiguous_format)


def bias_rows(key_bias: Tensor, q_BSHD: Tensor, keys: int) -> Tensor:
    """key_bias (B, 1 or H, keys) as float32 with neighbouring keys side by side, on a 4-byte boundary."""
    batch, _, heads, _ = q_BSHD.shape
    if tuple(key_bias.shape) not in ((batch, 1, keys), (batch, heads, keys)) or key_bias.device != q_BSHD.device:
        raise Refusal(f"key_bias is {_words(key_bias)}; the kernels read ({batch}, 1 or {heads}, {keys})")
    key_bias = key_bias.to(torch.float32)
    if (key_bias.stride(-1) == 1 or keys == 1) and key_bias.data_ptr() % 4 == 0:
        return key_bias
    return key_bias.clone(memory_format=torch.contiguous_format)


def _words(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}"


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


class RopeTables(NamedTuple):
    """What a launch points to, float32 with the same strides: must live until it is enqueued."""

    cos: Tensor
    sin: Tensor


def set_rope(
    arguments: Any, like_BSHD: Tensor, tokens: int, cos: Tensor | None, sin: Tensor | None
) -> RopeTables | None:
    """cos, sin (S, D/2) or (B, S, D/2), any strides: e.g. every second of repeated pairs; None without RoPE.

    tokens: rows that the kernel reads. Raises Refusal for tables that are shorter, or of other shapes.
    """
    if cos is None and sin is None:
        return None
    batch, pairs = like_BSHD.shape[0], like_BSHD.shape[-1] // 2
    for table in (cos, sin):
        if table is None or table.ndim not in (2, 3) or table.shape[-1] != pairs or table.shape[-2] < tokens:
            raise Refusal(f"RoPE tables must be cos and sin ({tokens} or more, {pairs}), and are not")
        if table.device != like_BSHD.device or (table.ndim == 3 and table.shape[0] not in (1, batch)):
            raise Refusal(f"a RoPE table is {_words(table)}; q and k are {_words(like_BSHD)}")
    assert cos is not None and sin is not None
    cos, sin = cos.float(), sin.float()
    if cos.shape != sin.shape:
        raise Refusal(f"cos is {tuple(cos.shape)} and sin {tuple(sin.shape)}")
    if cos.stride() != sin.stride() or cos.data_ptr() % 4 or sin.data_ptr() % 4:
        cos, sin = (table.clone(memory_format=torch.contiguous_format) for table in (cos, sin))
    arguments.cos, arguments.sin = cos.data_ptr(), sin.data_ptr()
    strides = [stride * cos.element_size() for stride in cos.stride()]
    arguments.rope_sb = strides[0] if cos.ndim == 3 and cos.shape[0] > 1 else 0
    arguments.rope_ss, arguments.rope_se = strides[-2:]
    return RopeTables(cos, sin)


def check_operands(
    q: Tensor | None, k: Tensor, v: Tensor, extra_k: Tensor | None = None, extra_v: Tensor | None = None
) -> None:
    """Raises Refusal for a dtype or head dim without a kernel, and for tensors that do not belong together.

    A kernel trusts what it is given: a value tensor shorter than its keys would be read past its end.
    """
    like = k if q is None else q
    if like.dtype not in DTYPES:
        raise Refusal(f"{like.dtype} is not supported, only bfloat16 and float16")
    if like.ndim != 4 or like.shape[-1] not in abi.HEAD_DIMS:
        raise Refusal(f"head dim {like.shape[-1]} is not supported, only 64 and 128")
    if (extra_k is None) != (extra_v is None):
        raise Refusal("extra_k and extra_v belong together")
    for other in (k, v, extra_k, extra_v):
        if other is None:
            continue
        if other.dtype != like.dtype or other.device != like.device:
            raise Refusal("q, k and v differ in dtype or device")
        if other.ndim != 4 or (other.shape[0], *other.shape[2:]) != (like.shape[0], *like.shape[2:]):
            raise Refusal(f"q is {tuple(like.shape)} and keys or values {tuple(other.shape)}")
    for keys, values in ((k, v), (extra_k, extra_v)):
        if keys is not None and values is not None and keys.shape[1] != values.shape[1]:
            raise Refusal(f"{keys.shape[1]} keys and {values.shape[1]} values")


def positive(q: Tensor, scale: float) -> tuple[Tensor, float]:
    """The same logits from a scale that is not negative, as the kernels' softmax needs it: q changes its sign.

    Raises Refusal for a scale that is no number.
    """
    if not math.isfinite(scale):
        raise Refusal(f"a scale of {scale}")
    return (-q, -scale) if scale < 0 else (q, scale)
