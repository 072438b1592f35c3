"""Two layers of the Wan VAE as a CPU computes them quickly: equal to diffusers' within rounding.

Between vae.py, which builds the model with them, and torch. On other devices and in other number formats they are
diffusers' own, but for single frames.
Legend: B batch, C channels, T frames, H W.
"""

from __future__ import annotations

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanRMS_norm
from torch import Tensor, nn
from torch.nn import functional


class CausalConv3d(WanCausalConv3d):
    def forward(self, x_BCTHW: Tensor, cache_x: Tensor | None = None) -> Tensor:
        left, _, top, _, front, _ = map(int, self._padding)
        if x_BCTHW.shape[2] == 1 and cache_x is None and self.stride[0] == 1 and front == self.kernel_size[0] - 1:
            return self._single_frame(x_BCTHW, (top, left))
        if not _is_plain(x_BCTHW):
            return super().forward(x_BCTHW, cache_x)
        if cache_x is not None and front:
            x_BCTHW = torch.cat([cache_x, x_BCTHW], dim=2)
            front -= cache_x.shape[2]
        if front:
            x_BCTHW = functional.pad(x_BCTHW, (0, 0, 0, 0, front, 0))
        # On one thread torch takes an im2col of its own, which is slower, for all but large inputs.
        x_BCTHW = x_BCTHW.contiguous(memory_format=torch.channels_last_3d)
        padding = (0, top, left)
        return torch.mkldnn_convolution(x_BCTHW, self.weight, self.bias, padding, self.stride, self.dilation, 1)

    def _single_frame(self, x_BCTHW: Tensor, padding: tuple[int, int]) -> Tensor:
        """Over one frame and zeros before it only the last temporal slice counts: a 2-D convolution."""
        if x_BCTHW.device.type == "meta":  # where FLOPs and bytes are counted
            return super().forward(x_BCTHW)
        weight = self.weight[:, :, -1]
        return functional.conv2d(x_BCTHW[:, :, 0], weight, self.bias, self.stride[1:], padding).unsqueeze(2)


class ChannelNorm(WanRMS_norm):
    """Over the channels; torch has no quick norm over a dimension that is not the last on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if not _is_plain(x):
            return super().forward(x)
        squares = x.square().sum(1 if self.channel_first else -1, keepdim=True)
        return x * (squares.clamp_min(1e-24).rsqrt() * self.scale) * self.gamma + self.bias


FAST: dict[type[nn.Module], type[nn.Module]] = {WanCausalConv3d: CausalConv3d, WanRMS_norm: ChannelNorm}


def use_fast_layers(model: nn.Module) -> None:
    """Weights, names and numbers stay as they are."""
    for module in model.modules():
        module.__class__ = FAST.get(type(module), type(module))


def _is_plain(x: Tensor) -> bool:
    """What the quick ways are for: fp32 on a CPU, outside of autocast, with oneDNN; no fake tensor of a tracer."""
    on_cpu = (
        type(x) is Tensor
        and x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )
    return on_cpu and torch.backends.mkldnn.is_available() and not torch.compiler.is_compiling()
