"""LPIPS (Zhang et al. 2018) on AlexNet, version 0.1, of weights that the user gives; none are shipped or fetched.

Place: two pictures -> lpips -> preservation. The folder holds alexnet.safetensors (torchvision's `features.0.weight`,
...) and lpips.safetensors (`lin0.model.1.weight`, ... of the authors' alex.pth); docs/metrics.md says how to make them.
Shapes: picture_HWC uint8.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...digests import weights_digest
from ...errors import InputError

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of the authors' ScalingLayer
# (number in torchvision's `features`, in, out, kernel, stride, padding), pooled before the second and third
CONVOLUTIONS = (
    (0, 3, 64, 11, 4, 2),
    (3, 64, 192, 5, 1, 2),
    (6, 192, 384, 3, 1, 1),
    (8, 384, 256, 3, 1, 1),
    (10, 256, 256, 3, 1, 1),
)
POOLED = (3, 6)
LEAST_SIDE = 32
ALEXNET, LINEAR = "alexnet.safetensors", "lpips.safetensors"


class Lpips(nn.Module):
    """Distance of two pictures: 0 for equal ones."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleDict(
            {str(n): nn.Conv2d(i, o, kernel, stride, padding) for n, i, o, kernel, stride, padding in CONVOLUTIONS}
        )
        self.linear = nn.ModuleList(nn.Conv2d(row[2], 1, 1, bias=False) for row in CONVOLUTIONS)

    @property
    def key(self) -> str:
        """Identifies the weights."""
        return weights_digest(self.state_dict())[:16]

    def features(self, picture_BCHW: Tensor) -> list[Tensor]:
        shift, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (SHIFT, SCALE))
        x, found = (picture_BCHW - shift) / scale, []
        for number, *_ in CONVOLUTIONS:
            if number in POOLED:
                x = functional.max_pool2d(x, 3, 2)
            x = functional.relu(self.convolutions[str(number)](x))
            found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return found

    @torch.no_grad()
    def forward(self, a_HWC: np.ndarray, b_HWC: np.ndarray) -> float:
        """Raises InputError for pictures that are too small for the network."""
        if min(a_HWC.shape[:2]) < LEAST_SIDE:
            raise InputError(
                f"a picture of {a_HWC.shape[1]}x{a_HWC.shape[0]} is too small for LPIPS; {LEAST_SIDE} at least"
            )
        a, b = (torch.from_numpy(x.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1.0 for x in (a_HWC, b_HWC))
        layers = zip(self.linear, self.features(a), self.features(b), strict=True)
        return float(sum(linear((x - y).square()).mean() for linear, x, y in layers))


def load_lpips(folder: Path) -> Lpips:
    """Raises InputError for a file that is missing, or holds other tensors."""
    from safetensors.torch import load_file

    model, weights = Lpips(), {}
    for name in (ALEXNET, LINEAR):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: no {name}; docs/metrics.md says how to make it")
        weights[name] = load_file(folder / name)
    wanted = {
        f"convolutions.{n}.{part}": f"features.{n}.{part}" for n, *_ in CONVOLUTIONS for part in ("weight", "bias")
    }
    values = {ours: weights[ALEXNET].get(theirs) for ours, theirs in wanted.items()}
    values |= {f"linear.{n}.weight": weights[LINEAR].get(f"lin{n}.model.1.weight") for n in range(len(CONVOLUTIONS))}
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    wrong = [name for name, value in values.items() if value is None or value.shape != shapes[name]]
    if wrong:
        raise InputError(f"{folder}: no {wrong[0]} of shape {tuple(shapes[wrong[0]])} in it; make the files anew")
    model.load_state_dict({name: value.float() for name, value in values.items() if value is not None})
    return model.eval()
