"""The Wan DiT from any file that artists have: original (ComfyUI) or diffusers names, wrapped or bare, whole or shards.

A file of the DiT alone, or a checkpoint that holds it beside others under `model.diffusion_model.`. Sizes come from the
shapes; a DiT of another kind (image-to-video, VACE, ...) is refused by name. Names and shapes are compared before any
tensor is read; then one is read at a time, so a load needs the memory of its result and of one layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...config import EMBEDDERS, DenoiserConfig, InstructXConfig
from ...errors import InputError
from ..containers.quantised import DequantisedSource
from ..containers.strict import check_tensor_names, is_finite, name_all, read_weight
from ..containers.tensor_source import TensorSource
from .dit_sizes import PATCH_EMBEDDING, Shapes, bare_dit, dit_sizes, dit_variant
from .keymaps import dit_to_diffusers, dit_to_original, is_diffusers_dit
from .packed_linear import PackedLinear
from .public_models import WAN_HEAD_DIM, WAN_LICENCE, dit_title, public_dit
from .report import LoadReport
from .weight_file import WeightFile


def denoiser_name(key: str) -> str:
    """Name in a file -> name in InstructXTransformer3DModel: original or diffusers spelling, wrapped or not."""
    bare = bare_dit(key)
    return bare if is_diffusers_dit(bare) else dit_to_diffusers(bare)


def dit_tensors(source: TensorSource) -> tuple[dict[str, str], tuple[str, ...]]:
    """(name in InstructXTransformer3DModel -> name in the file, names that are no part of the DiT).

    Raises InputError when the file holds no Wan DiT, one of another kind, or unknown tensors.
    """
    keys = source.keys()
    wrapped = [key for key in keys if bare_dit(key) != key]
    kept = wrapped or keys
    shapes = {bare_dit(key): source.shape(key) for key in kept}
    _refuse_strangers(source, shapes)
    ignored = set(keys) - set(kept)
    return name_all(source, kept, denoiser_name), tuple(key for key in keys if key in ignored)


def dit_names(dit: WeightFile) -> tuple[dict[str, str], tuple[str, ...]]:
    """dit_tensors of a DiT by itself. Ask it `once`."""
    return dit_tensors(dit.plain)


def _refuse_strangers(source: TensorSource, shapes: Shapes) -> None:
    architecture = source.metadata.get("general.architecture", "wan")
    if architecture not in ("wan", "pig", "cow"):  # the last two: gguf-node's, for any model
        raise InputError(f"{source.path.name} is a GGUF file of {architecture[:40]}, no Wan DiT; choose a Wan file")
    if PATCH_EMBEDDING not in shapes or not any(key.startswith("blocks.0.") for key in shapes):
        raise InputError(
            f"{source.path.name} holds no Wan DiT (no {PATCH_EMBEDDING} and blocks); choose the diffusion model, a "
            "file or folder (instructx inspect says what a file is)"
        )
    variant = dit_variant(shapes)
    if variant is not None:
        raise InputError(
            f"{source.path.name} is a Wan DiT for {variant}; InstructX works on the text-to-video model of the "
            "same size"
        )


def dit_config(dit: WeightFile) -> DenoiserConfig:
    """Sizes of a DiT, from its shapes; how source and reference enter stays at the defaults. Ask it `once`.

    Raises InputError as dit_tensors does, and when tensors that tell a size are missing.
    """
    source, (names, _) = dit.plain, dit.once(dit_names)
    shapes = {dit_to_original(name): source.shape(key) for name, key in names.items()}
    sizes = dit_sizes(shapes)
    try:
        width, out = shapes["patch_embedding.bias"][0], sizes["out_channels"]
        return DenoiserConfig(
            dim=width,
            ffn_dim=sizes["ffn_dim"],
            num_layers=sizes["layers"],
            num_heads=max(width // WAN_HEAD_DIM, 1),
            in_channels=sizes["in_channels"]
            if len(shapes[PATCH_EMBEDDING]) == 5
            else out,  # a flattened one, see _unfold
            out_channels=out,
            freq_dim=shapes["time_embedding.0.weight"][1],
            text_dim=shapes["text_embedding.0.weight"][1],
        )
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"{source.path.name} is an incomplete Wan DiT ({error}); download it again") from None


def read_dit(
    module: nn.Module,
    dit: WeightFile,
    config: InstructXConfig,
    adapter: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype = torch.bfloat16,
    device: str | torch.device = "cpu",
    packed: bool = False,
) -> LoadReport:
    """Weights of a Wan file and, for a profile with own embedders, of an adapter into `module`.

    module: an InstructXTransformer3DModel built under empty_parameters(). dit: by itself (open_dit of checkpoints.py).
    Norms, modulation and embedders stay fp32, as in diffusers. packed: quantised linear layers of the blocks stay as
    the file stores them, frozen (PackedLinear); otherwise all of it becomes plain. Raises InputError when the file is
    no such DiT, or tensors do not fit or are not finite.
    """
    embedders = {name: value for name, value in (adapter or {}).items() if name.startswith(EMBEDDERS)}
    shapes = fitting_shapes(module, dit, config, embedders)
    source, (names, ignored) = dit.plain, dit.once(dit_names)
    state = {name: value.to(device, torch.float32) for name, value in embedders.items()}
    if packed:
        names = _keep_packed(module, dit, names, dtype)
    for name, key in names.items():
        kept = torch.float32 if stays_fp32(module, name) else dtype
        state[name] = read_weight(source, key, device, kept).reshape(shapes[name])
    module.load_state_dict(state, strict=True, assign=True)
    return _report(dit, shapes, dit.once(dit_names)[0], ignored)


def _keep_packed(module: nn.Module, dit: WeightFile, names: Mapping[str, str], dtype: torch.dtype) -> dict[str, str]:
    """Quantised linears of the blocks become PackedLinear; gives the names that are still to be read."""
    source = dit.plain
    if not isinstance(source, DequantisedSource):
        return dict(names)
    left = dict(names)
    for name, key in names.items():
        stem = name.removesuffix(".weight")
        linear = module.get_submodule(stem) if name.startswith("blocks.") and stem != name else None
        if not isinstance(linear, nn.Linear) or not source.is_packed(key):
            continue
        bias = left.pop(f"{stem}.bias", None)
        del left[name]
        parent, _, child = stem.rpartition(".")
        weight = source.packed(key)
        if not is_finite(weight.unpack(torch.float32)):
            raise InputError(f"{source.path.name}: {key} holds NaN or infinity; the file is broken, download it again")
        kept = PackedLinear(weight, None if bias is None else read_weight(source, bias), dtype)
        setattr(module.get_submodule(parent), child, kept)
    return left


def stays_fp32(module: nn.Module, name: str) -> bool:
    """Whether a tensor of the DiT is kept in fp32 whatever the others are in, as in diffusers."""
    return not set(getattr(module, "_keep_in_fp32_modules", None) or ()).isdisjoint(name.split("."))


def fitting_shapes(
    module: nn.Module, dit: WeightFile, config: InstructXConfig, embedders: Mapping[str, Tensor]
) -> dict[str, tuple[int, ...]]:
    """Shapes by name in `module` of what the file holds; nothing is read. Raises InputError when it does not fit.

    embedders: what `module` has beside the file.
    """
    dit.agree(config, "denoiser")
    source, (names, _) = dit.plain, dit.once(dit_names)
    want = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    shapes = {name: _unfold(source.shape(key), want.get(name)) for name, key in names.items()}
    _check_sizes(source, shapes, config)
    have = {**shapes, **{name: tuple(value.shape) for name, value in embedders.items()}}
    check_tensor_names(source.path.name, _original(have), _original(want))
    return shapes


def dit_report(dit: WeightFile) -> LoadReport:
    """The report of read_dit, for who reads the tensors another way. Raises InputError as dit_tensors does."""
    names, ignored = dit.once(dit_names)
    return _report(dit, {name: dit.source.shape(key) for name, key in names.items()}, names, ignored)


def _report(dit: WeightFile, shapes: Shapes, names: Mapping[str, str], ignored: tuple[str, ...]) -> LoadReport:
    sizes = dit_sizes(shapes)
    return LoadReport(
        files=dit.files,
        kind=f"Wan DiT {dit_title(sizes)}, {dit.numbers}",
        consumed=tuple(names.values()),
        ignored=ignored,
        notes=(WAN_LICENCE,) if public_dit(sizes) else (),
    )


def _unfold(shape: tuple[int, ...], want: tuple[int, ...] | None) -> tuple[int, ...]:
    """`want`, where `shape` is the same tensor as GGUF tools flatten it: without ones in front, or a convolution of
    (out, in, t, h, w) as (out * in, t, h, w). Otherwise `shape`."""
    if want is None or shape == want or math.prod(shape) != math.prod(want):
        return shape
    no_ones = tuple(n for n in shape if n > 1) == tuple(n for n in want if n > 1)
    folded = len(want) == 5 and shape == (want[0] * want[1], *want[2:])
    return want if no_ones or folded else shape


def _original(values: Mapping[str, Any]) -> dict[str, Any]:
    """Messages use the spelling of Wan files."""
    return {name if name.startswith(EMBEDDERS) else dit_to_original(name): value for name, value in values.items()}


def _check_sizes(source: TensorSource, shapes: Shapes, config: InstructXConfig) -> None:
    """One sentence for the DiT of another size, instead of a list of a thousand tensors."""
    have = dit_sizes(shapes)
    want = {
        "dim": config.denoiser.dim,
        "layers": config.denoiser.num_layers,
        "in_channels": config.denoiser.in_channels,
    }
    if all(have.get(name) == want[name] for name in ("dim", "in_channels")):
        return
    theirs, ours = (
        f"{dit_title(sizes)} (width {sizes.get('dim')}, {sizes.get('in_channels')} channels)" for sizes in (have, want)
    )
    raise InputError(f"{source.path.name} is a Wan DiT {theirs}, but {config.name} needs {ours}; choose that one")
