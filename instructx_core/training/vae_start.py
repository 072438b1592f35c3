"""Initial weights from which a narrow Wan VAE learns in minutes instead of hours.

From the default initialisation the 12-channel VAE spends its first thousands of steps on a plateau and then has two of
the three colour axes only (docs/training.md). So it starts as a coarse autoencoder: the mean colour of every 8x8 block.
Residual branches start at zero; seven channels carry +rgb, -rgb and a constant all the way through. The constant keeps
the channel norms nearly linear, and silu(x) - silu(-x) = x undoes the last activation.
A clip starts as its frames one by one; temporal down- and upsampling keep and repeat the last frame.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanResample
from torch import Tensor, nn

INITIAL_LOG_VARIANCE = -6.0  # std 0.05: unit noise would drown the untrained means for hundreds of steps
CARRIED = 7  # +rgb, -rgb, constant
CONSTANT = 3.0
SIGNS = torch.cat([torch.eye(3), -torch.eye(3)])  # (6, 3): rgb -> +rgb, -rgb


def _center(weight: Tensor) -> Tensor:
    """View (out, in) of the tap at the newest frame and the middle of the kernel."""
    middle = weight.shape[-1] // 2
    return weight[:, :, -1, middle, middle] if weight.ndim == 5 else weight[:, :, middle, middle]


def _enter(conv: nn.Module) -> None:
    """First three inputs -> +rgb, -rgb, constant."""
    conv.weight[:CARRIED] = 0
    conv.bias.zero_()
    _center(conv.weight)[:6, :3] = SIGNS
    conv.bias[6] = CONSTANT


def _carry(conv: nn.Module) -> None:
    """The seven channels pass unchanged."""
    conv.weight[:CARRIED] = 0
    conv.bias.zero_()
    _center(conv.weight)[:CARRIED, :CARRIED] = torch.eye(CARRIED)


def _average(conv: nn.Module) -> None:
    """The seven channels are averaged over 2x2 (the padding is at the right and the bottom)."""
    conv.weight[:CARRIED] = 0
    conv.bias.zero_()
    for channel in range(CARRIED):
        conv.weight[channel, channel, :2, :2] = 0.25


def _leave(conv: nn.Module, gain: float) -> None:
    """silu(+rgb) - silu(-rgb) = rgb -> the first three outputs."""
    conv.weight[:3] = 0
    conv.bias.zero_()
    _center(conv.weight)[:3, :6] = gain * SIGNS.T


@torch.no_grad()
def start_simple(vae: AutoencoderKLWan) -> None:
    """In place. Needs at least 8 channels in the widest-open stage (`base_dim`)."""
    for module in vae.modules():
        last = {"WanResidualBlock": "conv2", "WanAttentionBlock": "proj"}.get(type(module).__name__)
        if last:
            nn.init.zeros_(getattr(module, last).weight)
            nn.init.zeros_(getattr(module, last).bias)
        shortcut = getattr(module, "conv_shortcut", None)
        if isinstance(shortcut, WanCausalConv3d):
            _carry(shortcut)
        if isinstance(module, WanCausalConv3d) and module.kernel_size[0] > 1:
            module.weight[:, :, :-1] = 0
        if isinstance(module, WanResample):
            convolution = module.resample[1]  # after the upsampling or the padding
            (_carry if module.mode.startswith("up") else _average)(convolution)
            if hasattr(module, "time_conv"):
                weight = module.time_conv.weight  # (C or 2C, C, 3, 1, 1)
                weight.zero_()
                weight[:, :, -1, 0, 0] = torch.eye(weight.shape[1]).repeat(weight.shape[0] // weight.shape[1], 1)
                nn.init.zeros_(module.time_conv.bias)
    for half in (vae.encoder, vae.decoder):
        _enter(half.conv_in)
    _leave(vae.encoder.conv_out, 1.0)
    _leave(vae.decoder.conv_out, 0.6)
    for mixer in (vae.quant_conv, vae.post_quant_conv):
        mixer.weight.zero_()
        mixer.weight[:, :, 0, 0, 0] = torch.eye(len(mixer.weight))
        nn.init.zeros_(mixer.bias)
    vae.quant_conv.bias[vae.config["z_dim"] :] = INITIAL_LOG_VARIANCE
