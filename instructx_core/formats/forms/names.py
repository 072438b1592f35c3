"""original: a DiT or VAE in the names that ComfyUI and Wan use. diffusers: as a folder, with config.json."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ..containers.tensor_source import TensorSource
from ..containers.writing import Pending, whole_folder
from ..layouts.dit import dit_config
from ..layouts.folders import DIFFUSERS_WEIGHTS
from ..layouts.vae import vae_config
from ..layouts.weight_file import WeightFile
from .pending import kept_metadata, pending_dit, pending_vae, write
from .request import Request


def to_original(request: Request) -> tuple[str, ...]:
    file = request.file if request.kind == "wan-vae" else request.dit("original")
    pending = pending_vae(file, diffusers=False) if request.kind == "wan-vae" else pending_dit(file)
    return write(request.target, pending, kept_metadata(file))


def to_diffusers(request: Request) -> tuple[str, ...]:
    if request.kind == "wan-vae":
        vae = request.file
        return _folder(request.target, _empty_vae(vae.plain), pending_vae(vae, diffusers=True))
    dit = request.dit("diffusers")
    return _folder(request.target, _empty_dit(dit), pending_dit(dit, diffusers=True))


def _empty_dit(dit: WeightFile) -> nn.Module:
    from diffusers import WanTransformer3DModel

    config = dit.once(dit_config)
    sizes = ("in_channels", "out_channels", "text_dim", "freq_dim", "ffn_dim", "num_layers", "eps", "patch_size")
    heads = {"num_attention_heads": config.num_heads, "attention_head_dim": config.dim // config.num_heads}
    with torch.device("meta"):
        return WanTransformer3DModel(**heads, **{name: getattr(config, name) for name in sizes})


def _empty_vae(source: TensorSource) -> nn.Module:
    from ...vae import build_vae

    with torch.device("meta"):
        return build_vae(vae_config(source))


def _folder(target: Path, module: nn.Module, pending: list[Pending]) -> tuple[str, ...]:
    """config.json of an empty module, and the weights. Raises AssertionError when the names are not the module's."""
    want = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    have = {item.name: item.shape for item in pending}
    if have != want:
        raise AssertionError(f"names or shapes are not those of {type(module).__name__}: {set(have) ^ set(want)}")
    with whole_folder(target, ()) as temporary:
        module.save_config(str(temporary))  # type: ignore[operator]
        return write(temporary / DIFFUSERS_WEIGHTS, pending, {})
