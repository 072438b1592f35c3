"""RAFT as flow, of torchvision. Weights are safetensors; its own files are pickled and are not read.

Place: torchvision -> raft -> ../stages/ground.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..terms.roles import Unplayable
from .reading import weights_name

STRIDE, LEAST = 8, 128  # of the sides; torchvision's RAFT takes no smaller picture


@dataclass(frozen=True, slots=True)
class RaftFlow:
    """weights: a safetensors file of raft_small or raft_large."""

    weights: str
    device: str = ""

    @property
    def name(self) -> str:
        return f"raft {weights_name(self.weights)}"

    @torch.no_grad()
    def flow(self, first_HWC: np.ndarray, second_HWC: np.ndarray) -> np.ndarray:
        model = _read(self.weights, self.device or "cpu")
        height, width = first_HWC.shape[:2]
        down, across = (max(LEAST, -(-side // STRIDE) * STRIDE) for side in (height, width))
        pair = torch.from_numpy(np.stack([first_HWC, second_HWC])).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        padded = torch.nn.functional.pad(pair, (0, across - width, 0, down - height), mode="replicate")
        flows = model(padded[:1].to(self.device or "cpu"), padded[1:].to(self.device or "cpu"))
        return flows[-1][0, :, :height, :width].permute(1, 2, 0).float().cpu().numpy()


@lru_cache(maxsize=1)
def _read(weights: str, device: str) -> Any:
    """Small or large, as the file's names say. Raises Unplayable for another file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        from torchvision.models.optical_flow import raft_large, raft_small
    except ImportError:
        raise Unplayable("RAFT needs torchvision; install it with: pip install torchvision") from None
    try:
        state = load_file(Path(weights))
        large = state["feature_encoder.convnormrelu.0.weight"].shape[0] == 64
        model = raft_large() if large else raft_small()
        model.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise Unplayable(f"{weights}: is no RAFT of torchvision as safetensors ({reason})") from None
    return model.to(device).eval()
