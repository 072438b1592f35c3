"""Self-test on the user's card: both attention kernels against float32 SDPA, on inputs that have broken such kernels.

Place in the data flow: `select.py` runs it once per card, driver and source, and trusts a kernel only after it passed.
The bounds are those the kernels are held to against float64 in the tests, plus what the output's own rounding adds.
Legend: B batch, S tokens, H heads, D head dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import exact, int8, sdpa

TOKENS = 333  # three query tiles and six key tiles, the last of each incomplete
HEAD_DIMS = (64, 128)
LIMITS = {"exact": 4e-3, "int8": 1.8e-2}  # relative L1 error
CASES = ("random", "offset", "outlier")


def inputs(case: str, head_dim: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v (1, S, 2, D), strided views of one packed tensor; always the same numbers.

    random: normal. offset: K shifted far off its spread in a fifth of the channels. outlier: a few strong channels in
    q and k, as DiTs have, and a V that overflows fp16 sums.
    """
    generator = torch.Generator().manual_seed(CASES.index(case) * 1000 + head_dim)
    packed = torch.randn((1, TOKENS, 3, 2, head_dim), generator=generator)
    q, k, v = packed.unbind(2)
    if case == "offset":
        k[..., ::5] += 100.0 * torch.randn((1, 1, 2, k[..., ::5].shape[-1]), generator=generator).sign()
        q[..., ::5] *= 0.05  # keeps the logits in the range that a model has
    if case == "outlier":
        k[..., :3] *= 6.0
        q[..., :3] *= 3.0
        v *= 3000.0
    packed = packed.to(device, dtype)
    q, k, v = packed.unbind(2)
    return q, k, v


def relative_error(got: Tensor, want: Tensor) -> float:
    """Sum of |got - want| over sum of |want|; infinity where `got` is not finite."""
    got, want = got.float(), want.float()
    if not torch.isfinite(got).all():
        return float("inf")
    return float((got - want).abs().sum() / want.abs().sum())


def measure(path: str, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> dict[str, float]:
    """Relative L1 error of "exact" or "int8" by "case/head dim". Raises KernelError where the kernel does not run."""
    op = exact.attention if path == "exact" else int8.attention_quantizing
    errors = {}
    for head_dim in HEAD_DIMS:
        for case in CASES:
            q, k, v = inputs(case, head_dim, device, dtype)
            want = sdpa.attention(q.float(), k.float(), v.float(), head_dim**-0.5)
            got, lse = op(q, k, v, head_dim**-0.5)
            error = relative_error(got, want)
            errors[f"{case}/{head_dim}"] = error if torch.isfinite(lse).all() else float("inf")
    return errors
