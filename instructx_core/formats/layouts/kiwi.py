"""Kiwi-Edit's files -> our names and an InstructXConfig: training files (stages 1 to 3, with the whole DiT or a LoRA of
it) and its diffusers folders; UniGen-LingXi has the same layout.

Everything that a shape tells is taken from the shapes: widths, counts of queries, rank and layers of the LoRA, whether
the connector ends at the DiT's width or in front of its text embedding. Where the reference stands in the sequence is
told by a folder's config, else by the file's name, else it is last. What only a training on references brings (their
queries, connector and embedder) may be absent: such a checkpoint then refuses references.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ...config import DenoiserConfig, InstructXConfig, LoraConfig, MllmConfig, SamplingConfig, VaeConfig, kiwi_5b
from ...errors import InputError
from ..containers.opening import open_source, read_json
from ..containers.quantised import dequantised, number_format
from ..containers.tensor_source import TensorSource
from ..containers.tensorfile import name_all, read_weight
from ..telling.report import LoadReport, some
from .encoder_weights import mllm_from_original, mllm_to_original

Position = Literal["last", "first"]
LICENCE = "Kiwi-Edit's checkpoints state no licence; ask their authors before any use beyond trying them"
DIFFUSERS_SIGMA_MIN = 0.003 / 1.002  # of its diffusers pipeline; its training code uses 0
REFERENCE_PARTS = ("queries.reference", "reference_connector.0.weight", "reference_embedder.weight")
# Pattern in a file without "pipe." -> our name.
_NAMES = (
    (r"(?:mllm\.)?(image|video)_queries(?:\.q)?", r"queries.\1"),
    (r"(?:mllm\.)?ref_queries(?:\.q)?", "queries.reference"),
    (r"(?:mllm\.)?connec?tor\.(.+)", r"connector.\1"),
    (r"(?:mllm\.)?ref_connec?tor\.(.+)", r"reference_connector.\1"),
    (r"(?:vae_condition|source_embedder)\.(?:patch_embedding\.)?(\w+)", r"source_embedder.\1"),
    (r"(?:ref_vae_condition|ref_embedder)\.(?:patch_embedding\.)?(\w+)", r"reference_embedder.\1"),
)
_LORA = re.compile(r"(?:mllm\.)?(?:model\.)?(model\..+)\.(lora_[AB])(?:\.\w+)?\.weight")
_DIT = re.compile(r"(?:dit\.)?((?:blocks|head|patch_embedding|text_embedding|time_embedding|time_projection)\..+)")


def adapter_name(key: str) -> str | None:
    """Name in a training file or folder -> name in an adapter of ours; None for a tensor of the DiT.

    Raises InputError for an unknown one.
    """
    bare = key.removeprefix("pipe.")
    for pattern, name in _NAMES:
        match = re.fullmatch(pattern, bare)
        if match:
            return match.expand(name)
    lora = _LORA.fullmatch(bare)
    if lora and not bare.startswith("dit."):
        return f"{mllm_to_original(mllm_from_original(lora[1]) or lora[1])}.{lora[2]}.weight"
    if _DIT.fullmatch(bare):
        return None
    raise InputError(f"unknown tensor name {key!r}; it belongs to no known Kiwi-Edit layout")


def dit_name(key: str) -> str | None:
    """Name in a training file -> original Wan name (LoRA halves included); None for a tensor beside the DiT."""
    match = _DIT.fullmatch(key.removeprefix("pipe."))
    return match[1] if match else None


def is_training_file(source: TensorSource) -> bool:
    """Whether these are names of a Kiwi-Edit training file."""
    return any(re.fullmatch(r"(pipe\.)?mllm\.(image|video|ref)_queries\.q", key) for key in source.keys())


class Part(TensorSource):
    """Some tensors of a source, under other names. Closing it closes the source."""

    def __init__(self, source: TensorSource, names: Mapping[str, str]) -> None:
        super().__init__(source.path, source.metadata)
        self._source, self._names = source, dict(names)

    @property
    def files(self) -> tuple[Path, ...]:
        return self._source.files

    def keys(self) -> list[str]:
        return list(self._names)

    def shape(self, key: str) -> tuple[int, ...]:
        return self._source.shape(self._names[key])

    def dtype(self, key: str) -> str:
        return self._source.dtype(self._names[key])

    def get(self, key: str, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> Tensor:
        return self._source.get(self._names[key], device, dtype)

    def close(self) -> None:
        self._source.close()


def dit_part(source: TensorSource, lora: bool = False) -> Part:
    """The DiT inside a training file, original Wan names: its weights, or (lora) the LoRA halves of it."""
    names = name_all(source, source.keys(), dit_name)
    return Part(source, {name: key for name, key in names.items() if (".lora_" in name) is lora})


# --- folders -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class KiwiFolder:
    """Files of a diffusers folder. adapter: what is beside Qwen, Wan and the VAE. reference_first: None if not told."""

    transformer: Path
    vae: Path
    text_encoder: Path
    qwen_config: Path | None
    tokenizer: Path
    adapter: tuple[tuple[str, Path], ...]  # (prefix of its tensors, file)
    reference_first: bool | None
    object_tokens: int | None


def is_folder(path: Path) -> bool:
    """Whether a path looks like a Kiwi-Edit diffusers folder."""
    return (path / "mllm_encoder").is_dir() and (path / "transformer").is_dir()


def read_folder(root: Path) -> KiwiFolder:
    """What lies where. Raises InputError naming what is missing."""
    mllm = root / "mllm_encoder"
    own = mllm / "diffusion_pytorch_model.safetensors"
    whole = (mllm / "model.safetensors.index.json", mllm / "model.safetensors")
    qwen = next((file for file in whole if file.is_file()), None)
    for file, what in ((own, "queries and connector"), (qwen or whole[0], "Qwen2.5-VL's weights")):
        if not file.is_file():
            raise InputError(f"no {file.relative_to(root)} in {root} ({what}); download the whole folder")
    adapter = [("", own)]
    for name in ("source_embedder", "ref_embedder"):
        file = root / name / "diffusion_pytorch_model.safetensors"
        if file.is_file():
            adapter.append((f"{name}.", file))
    assert qwen is not None
    configs = (root / "processor" / "qwen_config.json", mllm / "qwen_config.json")
    first = _told(root / "ref_embedder" / "config.json", "ref_pad_first", bool)
    return KiwiFolder(
        transformer=root / "transformer",
        vae=root / "vae",
        text_encoder=qwen,
        qwen_config=next((file for file in configs if file.is_file()), None),
        tokenizer=next((f for f in (root / "processor", mllm) if (f / "tokenizer.json").is_file()), root / "processor"),
        adapter=tuple(adapter),
        reference_first=None if first is None else bool(first),
        object_tokens=_told(mllm / "config.json", "max_object_token", int),
    )


def _told(file: Path, name: str, kind: type) -> int | None:
    """A value of a config.json; None where the file or the value is absent. Raises InputError on another type."""
    if not file.is_file():
        return None
    value = read_json(file).get(name)
    if value is not None and type(value) is not kind:
        raise InputError(
            f"{file.parent.name}/{file.name}: {name} is {str(value)[:40]!r}, no {kind.__name__}; download it again"
        )
    return value


# --- the config ----------------------------------------------------------------------------------------------------


def reference_position(told: bool | None, name: str, chosen: Position | None = None) -> tuple[Position, str]:
    """(where reference tokens stand, who says so): `chosen`, a folder's config, the file's name, or the default."""
    if chosen is not None:
        if chosen not in ("last", "first"):
            raise InputError(f"reference_position is {chosen!r}; use last or first")
        return chosen, "as asked"
    if told is not None:
        return ("first" if told else "last"), "by its config"
    if "pad_first" in name:
        return "first", "by its name"
    return "last", "the default: neither config nor name says pad_first"


def infer_config(
    shapes: Mapping[str, tuple[int, ...]],
    *,
    name: str,
    mllm: MllmConfig,
    denoiser: DenoiserConfig,
    vae: VaeConfig,
    position: Position = "last",
    object_tokens: int | None = None,
    sigma_min: float = 0.0,
) -> InstructXConfig:
    """InstructXConfig of a checkpoint: its switches are Kiwi-Edit's, its sizes those of the files.

    shapes: by name in an adapter of ours. denoiser: sizes of the DiT. object_tokens: most tokens of a reference, by
    default as many as there are reference queries, which is so in both sizes that its code knows.
    Raises InputError when queries, connector, Qwen and DiT do not fit.
    """
    usual = kiwi_5b()
    counts = {key: shapes.get(f"queries.{key}", (0, 0))[0] for key in ("image", "video", "reference")}
    has_reference = all(part in shapes for part in REFERENCE_PARTS)
    tokens = object_tokens or counts["reference"]
    instruction = dataclasses.replace(
        usual.instruction,
        num_image_queries=counts["image"],
        num_video_queries=counts["video"],
        num_reference_queries=counts["reference"] if has_reference else 0,
        reference_in_context=has_reference,
        max_reference_pixels=28 * 28 * tokens if tokens else usual.instruction.max_reference_pixels,
    )
    wide = dataclasses.replace(
        denoiser,
        source_embedder="own",
        source_scale="sigma",
        reference_embedder="own" if has_reference else "none",
        reference_position=position,
        context=_connector_target(shapes, name, mllm, denoiser),
    )
    # Size and rate of the frames are those that the public Wan of these latents is run at.
    public = usual.sampling if wide.in_channels == usual.denoiser.in_channels else SamplingConfig()
    return InstructXConfig(
        name=name, profile="kiwi", mllm=mllm, lora=_lora_config(shapes) or usual.lora, instruction=instruction,
        denoiser=wide, vae=vae, sampling=dataclasses.replace(public, sigma_min=sigma_min),
    )  # fmt: skip


def _connector_target(
    shapes: Mapping[str, tuple[int, ...]], name: str, mllm: MllmConfig, denoiser: DenoiserConfig
) -> Literal["direct", "text"]:
    first, last = shapes.get("connector.0.weight", ()), shapes.get("connector.2.weight", ())
    if len(first) != 2 or len(last) != 2 or not any(key.startswith("queries.") for key in shapes):
        raise InputError(
            f"{name} lacks queries or connector; it is no complete Kiwi-Edit checkpoint, download it again"
        )
    if first[1] != mllm.hidden_size:
        raise InputError(
            f"{name} was trained on a language model of width {first[1]}, this one has {mllm.hidden_size}; choose "
            "Qwen2.5-VL-3B (width 2048), or the one it was trained on"
        )
    if last[0] == denoiser.dim:
        return "direct"
    if last[0] == denoiser.text_dim:
        return "text"
    raise InputError(
        f"the connector of {name} ends at width {last[0]}, the DiT has {denoiser.dim}; choose the Wan of that width"
    )


def _lora_config(shapes: Mapping[str, tuple[int, ...]]) -> LoraConfig | None:
    """Rank, layers and scope of the MLLM's LoRA; None without one. Its alpha is its rank, as Kiwi-Edit trains it."""
    half = ".lora_A.weight"
    layers = {key.removesuffix(half): shape for key, shape in shapes.items() if key.endswith(half)}
    if not layers:
        return None
    rank = max(shape[0] for shape in layers.values())
    found = {stem.rpartition(".")[2] for stem in layers}
    order = {target: n for n, target in enumerate(LoraConfig().targets)}
    targets = tuple(sorted(found, key=lambda target: (order.get(target, len(order)), target)))
    whole = any(stem.startswith("visual.") for stem in layers)
    return LoraConfig(rank=rank, alpha=rank, targets=targets, scope="mllm" if whole else "language_model")


# --- read ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KiwiParts:
    """Everything of a checkpoint beside Qwen, Wan and the VAE, in our names."""

    tensors: dict[str, Tensor]
    report: LoadReport

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}


def read_training_file(path: Path) -> KiwiParts:
    """The adapter inside a training file. Raises InputError when it is none or damaged."""
    with open_source(path) as stored:
        if not is_training_file(stored):
            raise InputError(
                f"{path.name} is no Kiwi-Edit training file (no mllm.*_queries.q); instructx inspect says more"
            )
        source = dequantised(stored)
        names = name_all(source, source.keys(), adapter_name)
        tensors = {name: read_weight(source, key) for name, key in names.items()}
        whole, lora = dit_part(source).keys(), dit_part(source, lora=True).keys()
        held = "with the whole DiT" if whole else "with a LoRA of the DiT" if lora else "without a DiT"
        kind = f"Kiwi-Edit training file {held}, {number_format(stored)}"
        return KiwiParts(tensors, _report((path,), kind, tensors, tuple(names.values())))


def read_folder_adapter(folder: KiwiFolder) -> KiwiParts:
    """The adapter inside a diffusers folder."""
    tensors: dict[str, Tensor] = {}
    consumed: list[str] = []
    for prefix, file in folder.adapter:
        with dequantised(open_source(file)) as source:
            names = name_all(source, source.keys(), lambda key, prefix=prefix: adapter_name(prefix + key))
            tensors |= {name: read_weight(source, key) for name, key in names.items()}
            consumed += [prefix + key for key in names.values()]
    files = tuple(file for _, file in folder.adapter)
    return KiwiParts(tensors, _report(files, "Kiwi-Edit diffusers folder", tensors, tuple(consumed)))


def _report(files: tuple[Path, ...], kind: str, tensors: Mapping[str, Tensor], consumed: tuple[str, ...]) -> LoadReport:
    missing = [part for part in ("queries.image", "queries.video", *REFERENCE_PARTS) if part not in tensors]
    notes = [LICENCE]
    lost = [part for part in REFERENCE_PARTS if part in missing]
    if lost:
        notes.append(f"references are refused: the checkpoint has no {some(lost)}")
    if "source_embedder.weight" not in tensors:
        missing.append("source_embedder.weight")
        notes.append("no source embedder (stage 1): the DiT does not see the source, only Qwen does")
    return LoadReport(files=files, kind=kind, consumed=consumed, missing=tuple(missing), notes=tuple(notes))


def complete(tensors: Mapping[str, Tensor], config: InstructXConfig) -> dict[str, Tensor]:
    """`tensors` as `config` needs them: incomplete reference parts left out, an absent source embedder as zeros.

    Zeros are what its own code starts from, so a stage 1 file gives the same result there and here.
    """
    dropped = () if config.denoiser.reference_embedder == "own" else ("queries.reference", "reference_")
    kept = {name: value for name, value in tensors.items() if not name.startswith(dropped)}
    dit = config.denoiser
    if "source_embedder.weight" not in kept:
        kept["source_embedder.weight"] = torch.zeros(dit.dim, dit.in_channels, *dit.patch_size)
        kept["source_embedder.bias"] = torch.zeros(dit.dim)
    return kept
