"""The number format that a device computes in where nobody asks for another: the one place that decides.

Below all that loads or trains a model. A card computes in bf16. A CPU computes in fp32: its bf16 products need
AVX-512 BF16 or AMX, which most have not, and took about 90 times as long as fp32 without it (a step of training of the
tiny model on a CPU with AVX2 alone); what is stored in bf16 is widened when it is read. Where a processor has them, a
recipe may ask for them: `native` (benchmarks/training_step.py shows what they gain).
"""

from __future__ import annotations

import torch

FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def usual_dtype(device: torch.device | str) -> torch.dtype:
    """fp32 on a CPU, bf16 on every other device."""
    return torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16


def multiplies_bf16() -> bool:
    """Whether this processor has instructions for products of bf16 (AVX-512 BF16)."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # of newer releases than the oldest that runs
    return supported is not None and supported()


def dtype_of(precision: str, device: torch.device | str) -> torch.dtype:
    """Of a recipe's `precision`: auto is the usual one of `device`, native bf16 wherever `device` has products of it;
    another name is what it says on every device."""
    if precision == "native" and multiplies_bf16():
        return torch.bfloat16
    return usual_dtype(device) if precision in ("auto", "native") else FORMATS[precision]


def is_slow(dtype: torch.dtype, device: torch.device | str) -> bool:
    """Whether a CPU is asked for a format that few CPUs compute in."""
    return torch.device(device).type == "cpu" and dtype in (torch.bfloat16, torch.float16)
