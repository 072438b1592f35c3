"""Self-test on the user's card: both attention kernels against float64, on what will run and what has broken kernels.

Place in the data flow: `trial.py` runs it once per card, driver and source; `select.py` trusts a kernel only after it
passed. Covers both number formats and head dims, batch 2, two segments, a key bias, Wan's norm and RoPE fused into the
int8 path, the log-sum-exp, and 5000 tokens. Bounds: those of the tests against float64, plus the output's own rounding.
Legend: B batch, S tokens, H heads, D head dim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import exact, int8, reference
from .operands import NO_NORM_NO_ROPE, Inputs, NormRope

LIMITS = {"exact": 4e-3, "int8": 1.8e-2}  # relative L1 error of the output
HALF_LIMITS = {"exact": 8e-4, "int8": 1.8e-2}  # fp16 rounds eight times finer
LSE_LIMITS = {"exact": 2e-5, "int8": 2e-2}  # of the log-sum-exp, relative where it is above 1
_ROWS = 1024  # queries of which the float64 logits are held at a time


@dataclass(frozen=True)
class Case:
    """One call. kind: of numbers, see `inputs`. keys2: a second segment's. fused: norm and RoPE are pending."""

    name: str
    head_dim: int
    dtype: torch.dtype = torch.bfloat16
    kind: str = "random"
    batch: int = 1
    heads: int = 2
    tokens: int = 333  # three query tiles and six key tiles, the last of each incomplete
    keys2: int = 0
    fused: bool = False
    biased: bool = False

    def of(self, path: str) -> bool:
        """int8 takes no key bias; the exact kernel has no prologue to fuse anything into."""
        return not (self.biased if path == "int8" else self.fused)


_HALF = torch.float16
CASES = (
    Case("random/128", 128),
    Case("random/64", 64),
    Case("random/128/fp16", 128, _HALF, tokens=200, heads=1),
    Case("random/64/fp16", 64, _HALF, tokens=200, heads=1),
    Case("offset/128", 128, kind="offset", heads=1),
    Case("offset/64/fp16", 64, _HALF, "offset", heads=1),
    Case("outlier/128", 128, kind="outlier", heads=1),
    Case("outlier/64/fp16", 64, _HALF, "outlier", heads=1),
    Case("segments/128", 128, batch=2, tokens=150, keys2=70),
    Case("segments/64/fp16", 64, _HALF, batch=2, tokens=150, keys2=70),
    Case("bias/128", 128, batch=2, tokens=150, keys2=70, biased=True),
    Case("wan/128", 128, batch=2, heads=3, tokens=150, keys2=70, fused=True),
    Case("wan/64/fp16", 64, _HALF, batch=2, heads=3, tokens=150, fused=True),
    Case("long/128", 128, heads=1, tokens=5000),
    Case("long/64/fp16", 64, _HALF, heads=1, tokens=5000),
)


def inputs(case: Case, device: torch.device) -> tuple[Inputs, NormRope]:
    """Strided views of one packed tensor; the same numbers on every card.

    random: normal. offset: K shifted far off its spread in a fifth of the channels. outlier: a few strong channels in
    q and k, as DiTs have, and a V that overflows fp16 sums.
    """
    generator = torch.Generator().manual_seed(CASES.index(case) * 1000 + case.head_dim if case in CASES else 1)
    batch, heads, dim = case.batch, case.heads, case.head_dim
    packed = torch.randn((batch, case.tokens + case.keys2, 3, heads, dim), generator=generator)
    q, k, v = packed.unbind(2)
    if case.kind == "offset":
        k[..., ::5] += 100.0 * torch.randn((1, 1, heads, k[..., ::5].shape[-1]), generator=generator).sign()
        q[..., ::5] *= 0.05  # keeps the logits in the range that a model has
    if case.kind == "outlier":
        k[..., :3] *= 6.0
        q[..., :3] *= 3.0
        v *= 3000.0
    pending = _pending(case, generator, device)
    bias = torch.randn((batch, heads, case.tokens + case.keys2), generator=generator).to(device)
    bias[:, :, 1::3] = float("-inf")
    q, k, v = packed.to(device, case.dtype).unbind(2)
    extra = {} if not case.keys2 else {"extra_k": k[:, case.tokens :], "extra_v": v[:, case.tokens :]}
    q, k, v = (part[:, : case.tokens] for part in (q, k, v))
    return Inputs.of(q, k, v, key_bias=bias if case.biased else None, **extra), pending


def _pending(case: Case, generator: torch.Generator, device: torch.device) -> NormRope:
    """Wan's norm weights, and its tables as diffusers gives them: every second column of repeated pairs."""
    if not case.fused:
        return NO_NORM_NO_ROPE
    width = case.heads * case.head_dim
    norm_q, norm_k = (torch.rand(width, generator=generator).to(device, case.dtype) + 0.5 for _ in "qk")
    angle = (6.3 * torch.rand((case.tokens, case.head_dim // 2), generator=generator)).repeat_interleave(2, 1)
    angle = angle.to(device)
    return NormRope(norm_q, norm_k, angle.cos()[:, 0::2], angle.sin()[:, 1::2], 1e-6)


def truth(given: Inputs, pending: NormRope, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
    """Output and LSE of these rows of queries in float64: no setting of the host (TF32, a backend) can touch it."""
    q, k, v, scale, bias, extra_k, extra_v = given
    norm_q, norm_k, cos, sin, eps = pending
    q = reference.rope(reference.rms_norm(q.double(), norm_q, eps), cos, sin)[:, rows]
    k = reference.rope(reference.rms_norm(k.double(), norm_k, eps), cos, sin)
    parts = [reference.attention(part, k, v, scale, bias, extra_k, extra_v) for part in q.split(_ROWS, dim=1)]
    return torch.cat([out for out, _ in parts], 1), torch.cat([lse for _, lse in parts], 2)


def relative_error(got: Tensor, want: Tensor) -> float:
    """Sum of |got - want| over sum of |want|; infinity where `got` is not finite."""
    got, want = got.double(), want.double()
    if not torch.isfinite(got).all():
        return float("inf")
    return float((got - want).abs().sum() / want.abs().sum())


def lse_error(got: Tensor, want: Tensor) -> float:
    """Largest deviation, relative where the log-sum-exp is above 1; infinity where `got` is not finite."""
    if not torch.isfinite(got).all():
        return float("inf")
    return float(((got.double() - want).abs() / want.abs().clamp(min=1.0)).max())


def limit(path: str, name: str) -> float:
    """Of what `attention_errors` calls `name`."""
    return (LSE_LIMITS if name.endswith(" LSE") else HALF_LIMITS if name.endswith("/fp16") else LIMITS)[path]


def attention_errors(path: str, device: torch.device, cases: Sequence[Case] = CASES) -> dict[str, float]:
    """Errors of "exact" or "int8" by case, and of its LSE ("<case> LSE"). Raises KernelError where it does not run."""
    errors = {}
    for case in cases:
        if not case.of(path):
            continue
        given, pending = inputs(case, device)
        if path == "exact":
            got, lse = exact.attention(*given)
        else:
            got, lse = int8.quantized_attention(given, pending) if case.fused else int8.attention_quantizing(*given)
        want, want_lse = truth(given, pending)
        errors[case.name] = relative_error(got, want)
        errors[f"{case.name} LSE"] = lse_error(lse, want_lse)
    return errors
