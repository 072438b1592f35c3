"""`instructx convert`: a weight file into another form of the same weights, streamed, in the number format it has.

    original   DiT or VAE in the names that ComfyUI and Wan use; also the DiT out of Kiwi files and folders
    diffusers  DiT or VAE as a folder for diffusers: config.json and weights
    adapter    what InstructX adds, out of a Kiwi file or folder, or an adapter without its LoRA
    merged     a LoRA folded in: of the DiT into a DiT, of an adapter into Qwen2.5-VL
    fp8        matrices as fp8 with a scale each, half the size: ComfyUI's fp8_scaled

Nothing is overwritten, and a target appears whole or not at all. Quantised sources come out as bf16.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .containers.opening import open_source
from .containers.quantised import dequantised
from .containers.tensor_source import TORCH_DTYPES, TensorSource
from .containers.tensorfile import FLOATS, METADATA_KEY, read_weight, whole_folder
from .containers.writing import Piece, check_new, new_file, write_pieces
from .layouts.adapter import load_adapter, open_denoiser
from .layouts.dit import dit_config, dit_tensors
from .layouts.encoder import check_encoder, lora_layers, open_encoder
from .layouts.encoder_weights import mllm_from_original
from .layouts.keymaps import dit_to_diffusers, dit_to_original, vae_to_diffusers, vae_to_original
from .layouts.kiwi import is_folder
from .layouts.lora import DitLora
from .layouts.vae import vae_config, vae_tensors
from .telling.identify import identify
from .telling.report import some

PLAIN = "BF16"  # what quantised tensors become
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
FP8, FP8_MAX = "F8_E4M3", 448.0
DTYPE_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}
Names = dict[str, str]  # new name -> name in the file


@dataclass(frozen=True)
class Request:
    """What to convert. kind: what identify says of the source. lora to layers: of `merged`, the rest of `adapter`."""

    source: Path
    target: Path
    kind: str
    lora: Path | None = None
    strength: float = 1.0
    layers: str = "all"
    encoder: Path | None = None
    vae: Path | None = None
    without_lora: bool = False


@dataclass(frozen=True)
class Converted:
    """What was written, and lines about what was done."""

    path: Path
    notes: tuple[str, ...] = ()


def convert(
    source: str | Path, target: str | Path, to: str, lora: str | Path | None = None, strength: float = 1.0,
    layers: str = "all", encoder: str | Path | None = None, vae: str | Path | None = None,
    without_lora: bool = False,
) -> Converted:  # fmt: skip
    """Write `source` as `target`, a file (a folder for to="diffusers").

    Raises InputError when the target exists, the source is of another kind than `to` takes, damaged or does not fit the
    LoRA, and when the disk is full. Nothing is left behind then.
    """
    if to not in TARGETS:
        raise InputError(f"--to {to!r} is unknown; use {', '.join(TARGETS)}")
    source, target = Path(source), Path(target)
    check_new(target)
    if to != "diffusers" and target.suffix != ".safetensors":
        raise InputError(f"{target.name} must end in .safetensors, because that is what is written")
    kind = identify(source).kind
    request = Request(
        source, target, kind, lora=_path(lora), strength=strength, layers=layers, encoder=_path(encoder),
        vae=_path(vae), without_lora=without_lora,
    )  # fmt: skip
    if (to == "merged") != (lora is not None):
        raise InputError("--lora belongs to --to merged: give both, or neither")
    return Converted(target, TARGETS[to](request))


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _refuse(request: Request, to: str, takes: str) -> InputError:
    return InputError(f"{request.source.name} is {request.kind}, --to {to} takes {takes}; see instructx inspect")


# --- tensors to come ---------------------------------------------------------------------------------------------


def plain_pieces(
    stored: TensorSource, source: TensorSource, names: Names, shapes: Mapping[str, tuple[int, ...]] | None = None,
    change: Callable[[str, Tensor], Tensor] = lambda name, tensor: tensor,
) -> list[Piece]:  # fmt: skip
    """Every tensor of `names` from `source`, the dequantised `stored`, in its stored type where that is a plain one.

    shapes: where another than the file's is meant. change(new name, tensor): what becomes of it before it is cast.
    """

    def read(name: str, key: str, kind: str) -> Tensor:
        return change(name, read_weight(source, key)).to(TORCH_DTYPES[kind]).reshape(shape_of(name, key))

    def shape_of(name: str, key: str) -> tuple[int, ...]:
        return (shapes or {}).get(name, source.shape(key))

    pieces = []
    for name, key in names.items():
        kind = stored.dtype(key) if stored.dtype(key) in FLOATS else PLAIN
        pieces.append(Piece(name, kind, shape_of(name, key), lambda n=name, k=key, t=kind: read(n, k, t)))
    return pieces


def fp8_pieces(pieces: list[Piece], chosen: Callable[[Piece], bool]) -> list[Piece]:
    """The chosen matrices as fp8 with a scale beside each, and the marker by which ComfyUI knows such a file.

    w = fp8 * scale, scale = max|w| / 448. The marker has two elements: products in full precision.
    """
    out = [Piece("scaled_fp8", FP8, (2,), lambda: torch.zeros(2, dtype=TORCH_DTYPES[FP8]))]
    for piece in pieces:
        if not chosen(piece):
            out.append(piece)
            continue
        scale = _Scale(piece)
        stem = piece.name.removesuffix(".weight")
        out += [
            Piece(f"{stem}.scale_weight", "F32", (), scale.value),
            Piece(piece.name, FP8, piece.shape, scale.weight),
        ]
    return out


@dataclass(frozen=True)
class _Scale:
    """The two halves of one weight. The scale comes first in the file (fp32 before fp8), so a weight is read twice."""

    piece: Piece

    def value(self) -> Tensor:
        return _scale_of(self.piece.read())

    def weight(self) -> Tensor:
        full = self.piece.read().float()
        return full.div_(_scale_of(full)).clamp_(-FP8_MAX, FP8_MAX).to(TORCH_DTYPES[FP8])


def _scale_of(weight: Tensor) -> Tensor:
    """max|w| / 448 in fp32, 1 for a weight of zeros. No copy of the weight is made."""
    peak = torch.stack(torch.aminmax(weight)).float().abs().max()
    return torch.where(peak > 0, peak / FP8_MAX, torch.ones(()))


def kept_metadata(source: TensorSource) -> dict[str, str]:
    """What of a file's metadata is still true of another form of its weights."""
    if source.path.suffix == ".gguf":
        return {}
    return {name: text for name, text in source.metadata.items() if name not in ("format", "_quantization_metadata")}


def write(target: Path, pieces: list[Piece], metadata: Mapping[str, str]) -> tuple[str, ...]:
    """One new file; nothing to say about it. Raises InputError when the disk has no room for it."""
    need, free = sum(piece.bytes for piece in pieces), shutil.disk_usage(target.parent).free
    if need > free:
        raise InputError(f"{target.parent} has {free / 1e9:.2f} GB free, {target.name} needs {need / 1e9:.2f} GB")
    with new_file(target) as temporary:
        write_pieces(temporary, pieces, metadata)
    return ()


# --- DiT and VAE -------------------------------------------------------------------------------------------------


@contextmanager
def dit_source(request: Request, to: str) -> Iterator[tuple[TensorSource, TensorSource]]:
    """(stored, dequantised) source of the DiT of a Wan file, a Kiwi file or a Kiwi folder."""
    if request.kind == "wan-dit":
        stored = open_source(request.source)
    elif request.kind in ("kiwi-training", "kiwi-folder"):
        stored = open_kiwi_dit(request.source)
    else:
        raise _refuse(request, to, "a Wan DiT or VAE, or a Kiwi file or folder with one")
    with stored:
        yield stored, dequantised(stored)


def open_kiwi_dit(path: Path) -> TensorSource:
    """The DiT of a Kiwi file or folder. Raises InputError when a training file holds none of its own."""
    source = open_denoiser(path / "transformer" if is_folder(path) else path)
    if source.keys():
        return source
    source.close()
    raise InputError(f"{path.name} holds no DiT of its own; use the Wan DiT that it was trained on (instructx inspect)")


def dit_pieces(stored: TensorSource, source: TensorSource, diffusers: bool = False, **options: Any) -> list[Piece]:
    """The DiT in original or diffusers names. Flattened tensors of GGUF get their shape back."""
    found, _ = dit_tensors(source)
    config = dit_config(source)
    names = {name if diffusers else dit_to_original(name): key for name, key in found.items()}
    shapes = {}
    for name in names:
        if name == "patch_embedding.weight":
            shapes[name] = (config.dim, config.in_channels, *config.patch_size)
        elif name.endswith(("modulation", "scale_shift_table")):
            shapes[name] = (1, 6 if name.startswith("blocks.") else 2, config.dim)
    return plain_pieces(stored, source, names, shapes, **options)


def vae_pieces(stored: TensorSource, source: TensorSource, diffusers: bool) -> list[Piece]:
    """The VAE in original or diffusers names."""
    found, config = vae_tensors(source), vae_config(source)
    is_diffusers = "encoder.conv_in.weight" in found
    rename = (vae_to_diffusers if diffusers else vae_to_original) if is_diffusers != diffusers else None
    names = {rename(bare, config) if rename else bare: key for bare, key in found.items()}
    return plain_pieces(stored, source, names)


def _to_original(request: Request) -> tuple[str, ...]:
    if request.kind == "wan-vae":
        with open_source(request.source) as stored:
            pieces = vae_pieces(stored, dequantised(stored), diffusers=False)
            return write(request.target, pieces, kept_metadata(stored))
    with dit_source(request, "original") as (stored, source):
        return write(request.target, dit_pieces(stored, source), kept_metadata(stored))


def _to_diffusers(request: Request) -> tuple[str, ...]:
    if request.kind == "wan-vae":
        with open_source(request.source) as stored:
            source = dequantised(stored)
            return _diffusers_folder(request.target, _empty_vae(source), vae_pieces(stored, source, diffusers=True))
    with dit_source(request, "diffusers") as (stored, source):
        return _diffusers_folder(request.target, _empty_dit(source), dit_pieces(stored, source, diffusers=True))


def _empty_dit(source: TensorSource) -> Any:
    from diffusers import WanTransformer3DModel

    config = dit_config(source)
    sizes = ("in_channels", "out_channels", "text_dim", "freq_dim", "ffn_dim", "num_layers", "eps", "patch_size")
    heads = {"num_attention_heads": config.num_heads, "attention_head_dim": config.dim // config.num_heads}
    with torch.device("meta"):
        return WanTransformer3DModel(**heads, **{name: getattr(config, name) for name in sizes})


def _empty_vae(source: TensorSource) -> Any:
    from ..vae import build_vae

    with torch.device("meta"):
        return build_vae(vae_config(source))


def _diffusers_folder(target: Path, module: Any, pieces: list[Piece]) -> tuple[str, ...]:
    """config.json of an empty module, and the weights. Raises AssertionError when the names are not the module's."""
    want = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    have = {piece.name: piece.shape for piece in pieces}
    if have != want:
        raise AssertionError(f"names or shapes are not those of {type(module).__name__}: {set(have) ^ set(want)}")
    with whole_folder(target, ()) as temporary:
        module.save_config(str(temporary))
        return write(temporary / WEIGHTS_FILE, pieces, {})


# --- fp8 -----------------------------------------------------------------------------------------------------------


def _to_fp8(request: Request) -> tuple[str, ...]:
    """All matrices of the DiT, also the few outside the blocks: ComfyUI 0.3.75 would cast those without a scale."""
    if request.kind == "qwen2.5-vl":
        with open_source(request.source) as stored:
            _refuse_quantised(stored)
            pieces = plain_pieces(stored, stored, {key: key for key in stored.keys() if not key.startswith("lm_head.")})
            pieces = fp8_pieces(pieces, lambda piece: len(piece.shape) == 2 and "embed_tokens" not in piece.name)
            return write(request.target, pieces, kept_metadata(stored))
    with dit_source(request, "fp8") as (stored, source):
        _refuse_quantised(stored)
        pieces = fp8_pieces(dit_pieces(stored, source), lambda piece: len(piece.shape) == 2)
        return write(request.target, pieces, kept_metadata(stored))


def _refuse_quantised(stored: TensorSource) -> None:
    packed = sorted({stored.dtype(key) for key in stored.keys()} - set(FLOATS))
    if packed:
        raise InputError(f"{stored.path.name} is quantised already ({', '.join(packed)}); start from the bf16 file")


# --- adapter -------------------------------------------------------------------------------------------------------


def _to_adapter(request: Request) -> tuple[str, ...]:
    """The adapter of a Kiwi file or folder, or ours again; without_lora leaves out what was merged into Qwen."""
    if request.kind not in ("adapter", "kiwi-training", "kiwi-folder"):
        raise _refuse(request, "adapter", "a Kiwi-Edit training file or folder, or an adapter with --without-lora")
    adapter = load_adapter(request.source, text_encoder=request.encoder, vae=request.vae)
    lora = (
        {key for key in adapter.tensors if ".lora_" in key or key.endswith(".alpha")} if request.without_lora else set()
    )
    pieces = [
        Piece(key, DTYPE_NAMES[value.dtype], tuple(value.shape), lambda value=value: value)
        for key, value in adapter.tensors.items()
        if key not in lora
    ]
    write(request.target, pieces, {METADATA_KEY: adapter.config.to_json()})
    return (*adapter.report.notes, *((f"{len(lora)} tensors of the LoRA left out",) if lora else ()))


# --- LoRA ----------------------------------------------------------------------------------------------------------


def _to_merged(request: Request) -> tuple[str, ...]:
    assert request.lora is not None
    if request.kind == "qwen2.5-vl":
        return _merge_mllm(request, request.lora)
    with dit_source(request, "merged") as (stored, source):
        shapes = {dit_to_diffusers(piece.name): piece.shape for piece in dit_pieces(stored, source)}
        with DitLora(request.lora, shapes, request.layers) as lora:
            changed = {dit_to_original(name): name for name in lora.names}

            def change(name: str, tensor: Tensor) -> Tensor:
                if name not in changed:
                    return tensor
                return tensor.float().add_(lora.change(changed[name]), alpha=request.strength)

            write(request.target, dit_pieces(stored, source, change=change), kept_metadata(stored))
            return _said(request.lora, len(changed), lora.ignored, lora.left_out)


def _merge_mllm(request: Request, file: Path) -> tuple[str, ...]:
    """The LoRA of an adapter into Qwen2.5-VL; load the result with an adapter that has none (--without-lora)."""
    if (request.strength, request.layers) != (1.0, "all"):
        raise InputError("--strength and --layers belong to a LoRA of the DiT; the adapter's LoRA is merged as trained")
    adapter = load_adapter(file, text_encoder=request.source)
    config, layers = adapter.config, lora_layers(adapter.tensors, adapter.config)
    with open_encoder(request.source) as stored:
        check_encoder(stored, config)
        names = {key: mllm_from_original(key) for key in stored.keys()}
        lost = set(layers) - set(names.values())
        if lost or not layers:
            raise InputError(
                f"{file.name} has {len(layers)} LoRA layers, {len(lost)} of them not in {request.source.name} "
                f"({some(lost) or 'none'}); use the files of one model"
            )

        def change(key: str, tensor: Tensor) -> Tensor:
            layer = layers.get(names[key] or "")
            return tensor if layer is None else layer.merged_into(tensor)

        kept = {key: key for key, name in names.items() if name is not None}
        write(request.target, plain_pieces(stored, dequantised(stored), kept, change=change), kept_metadata(stored))
    return _said(file, len(layers), (), ())


def _said(file: Path, matched: int, ignored: tuple[str, ...], left_out: tuple[str, ...]) -> tuple[str, ...]:
    said = [f"{file.name}: {matched} weights changed"]
    said += [f"{len(ignored)} tensors match no layer ({some(ignored)})"] if ignored else []
    said += [f"{len(left_out)} tensors of other layers left out"] if left_out else []
    return tuple(said)


TARGETS: dict[str, Callable[[Request], tuple[str, ...]]] = {
    "original": _to_original,
    "diffusers": _to_diffusers,
    "adapter": _to_adapter,
    "merged": _to_merged,
    "fp8": _to_fp8,
}
