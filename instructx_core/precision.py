"""The number format that a device computes in where nobody asks for another: the one place that decides.

Below all that loads or trains a model. A card computes in bf16. A CPU computes in fp32: its bf16 products need
AVX-512 BF16 or AMX, which most have not, and took about 90 times as long as fp32 without it (a step of training of the
tiny model on a CPU with AVX2 alone); what is stored in bf16 is widened when it is read.
"""

from __future__ import annotations

import torch

FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def usual_dtype(device: torch.device | str) -> torch.dtype:
    """fp32 on a CPU, bf16 on every other device."""
    return torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16


def dtype_of(precision: str, device: torch.device | str) -> torch.dtype:
    """Of a recipe's `precision`: auto is the usual one of `device`, another name is what it says on every device."""
    return usual_dtype(device) if precision == "auto" else FORMATS[precision]


def is_slow(dtype: torch.dtype, device: torch.device | str) -> bool:
    """Whether a CPU is asked for a format that few CPUs compute in."""
    return torch.device(device).type == "cpu" and dtype in (torch.bfloat16, torch.float16)
