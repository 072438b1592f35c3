"""The Wan VAE from any file that artists have: Wan2.1 (16 channels) and Wan2.2 (48), original or diffusers names.

A file of the VAE alone, bare or under `model.`, a diffusers folder, or a checkpoint that holds it beside others. Sizes
come from the shapes; another VAE is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from ...config import InstructXConfig, VaeConfig
from ...errors import InputError
from ..containers.strict import check_tensor_names, name_all, read_weight
from ..containers.tensor_source import TensorSource
from .keymaps import vae_to_diffusers, vae_to_original
from .public_models import WAN_LICENCE, public_vae
from .report import LoadReport
from .weight_file import WeightFile

_WRAPPERS = ("first_stage_model.", "vae.", "model.")
# Kernels, by either spelling: (out, in, t, h, w).
_ENTRY = ("encoder.conv1.weight", "encoder.conv_in.weight")
_DECODER = ("decoder.conv1.weight", "decoder.conv_in.weight")
_EXIT = ("decoder.head.2.weight", "decoder.conv_out.weight")
_NESTED = re.compile(r"encoder\.downsamples\.\d+\.downsamples\.|encoder\.down_blocks\.\d+\.(resnets|downsampler)\.")


def vae_tensors(source: TensorSource) -> dict[str, str]:
    """Bare name, in the spelling of the file -> name in the file. Raises InputError when it holds no Wan VAE."""
    keys = source.keys()
    for wrapper in (*_WRAPPERS, ""):
        names = {key.removeprefix(wrapper): key for key in keys if key.startswith(wrapper)}
        if any(name in names for name in _ENTRY) and any(name in names for name in _DECODER):
            return names
    raise InputError(
        f"{source.path.name} holds no Wan VAE; choose wan_2.1_vae or wan2.2_vae, whichever belongs to the diffusion "
        "model (a TAE is for previews only)"
    )


def is_wan22_vae(names: Iterable[str]) -> bool:
    """Whether these are bare names of Wan2.2's VAE: blocks nested by level, where Wan2.1's are numbered flat."""
    return any(_NESTED.match(name) for name in names)


def vae_config(source: TensorSource) -> VaeConfig:
    """The VaeConfig of a file, from its shapes: widths, channels and the family. Raises InputError for no Wan VAE."""
    names = vae_tensors(source)
    shapes = {name: source.shape(key) for name, key in names.items()}
    nested = is_wan22_vae(shapes)
    entry, decoder, out = (_shape(source, shapes, places) for places in (_ENTRY, _DECODER, _EXIT))
    mult = VaeConfig().dim_mult
    decoder_dim = decoder[0] // mult[-1]
    patch = 2 if nested else None
    return VaeConfig(
        base_dim=entry[0],
        decoder_base_dim=None if decoder_dim == entry[0] else decoder_dim,
        z_dim=decoder[1],
        in_channels=entry[1],
        out_channels=out[0],
        patch_size=patch,
        is_residual=nested,
        scale_factor_spatial=public_vae(nested).spatial,
    )


def _shape(source: TensorSource, shapes: Mapping[str, tuple[int, ...]], places: tuple[str, str]) -> tuple[int, ...]:
    shape = next((shapes[name] for name in places if name in shapes), ())
    if len(shape) != 5:
        raise InputError(f"{source.path.name} is an incomplete Wan VAE ({places[0]} is {shape}); download it again")
    return shape


def read_vae(
    module: nn.Module,
    file: WeightFile,
    config: InstructXConfig,
    dtype: torch.dtype = torch.bfloat16,
    device: str | torch.device = "cpu",
) -> LoadReport:
    """Weights of a Wan VAE into `module`, an AutoencoderKLWan built under empty_parameters().

    Raises InputError when the file is another VAE, or tensors do not fit or are not finite.
    """
    check_vae(file, config)
    source = file.plain
    found = vae_tensors(source)
    want = {name: tuple(value.shape) for name, value in module.state_dict().items()}

    def rename(bare: str) -> str:
        return bare if bare in want else vae_to_diffusers(bare, config.vae)

    places = {name: found[bare] for name, bare in name_all(source, found, rename).items()}
    have, need = (
        {vae_to_original(name, config.vae): shape for name, shape in shapes.items()}
        for shapes in ({name: source.shape(key) for name, key in places.items()}, want)
    )
    check_tensor_names(source.path.name, have, need)
    state = {name: read_weight(source, key, device, dtype) for name, key in places.items()}
    module.load_state_dict(state, strict=True, assign=True)
    kept = set(places.values())
    return LoadReport(
        files=file.files,
        kind=f"{_title(config.vae)}, {file.numbers}",
        consumed=tuple(places.values()),
        ignored=tuple(key for key in source.keys() if key not in kept),
        notes=(WAN_LICENCE,) if config.vae.base_dim >= 96 else (),
    )


def _title(vae: VaeConfig) -> str:
    return f"Wan{'2.2' if vae.is_residual else '2.1'} VAE of {vae.z_dim} channels"


def check_vae(file: WeightFile, config: InstructXConfig) -> None:
    """Raises InputError when the file holds another VAE than `config` needs. Reads shapes only."""
    file.agree(config, "vae")
    source = file.plain
    have = vae_config(source)
    if (have.z_dim, have.is_residual, have.base_dim) != (config.vae.z_dim, config.vae.is_residual, config.vae.base_dim):
        raise InputError(
            f"{source.path.name} is a {_title(have)} and width {have.base_dim}, but {config.name} needs a "
            f"{_title(config.vae)} and width {config.vae.base_dim}; choose that one"
        )
