"""The encoder as the host's own kind of model: in a ModelPatcher, so that loading, offloading, eviction and /free work.

Load Encoder makes a LoadedEncoder; Query Embeddings and Connector run it. Every layer with weights becomes one that
casts them to its input, because the host offloads only such layers; the arithmetic stays the library's.
Legend: B batch, L tokens, Q queries, D width.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from . import host
from .dit_adapter import DitAdapter, adapter_of_file

if TYPE_CHECKING:
    from ...instructx_core.config import InstructXConfig, ReferencePosition
    from ...instructx_core.encoder.inputs import EncoderInputs
    from ...instructx_core.formats.layouts.adapter import Adapter
    from ...instructx_core.formats.layouts.report import LoadReport
    from ...instructx_core.formats.layouts.weight_file import WeightFile

LEAST_TRANSFORMERS = (4, 57)


@dataclass(eq=False)
class LoadedEncoder:
    """The wire INSTRUCTX_ENCODER. patcher: the host's ModelPatcher around EncoderModule."""

    patcher: Any
    config: InstructXConfig
    tokenizer: Any
    adapter: DitAdapter
    dtype: torch.dtype

    @contextmanager
    def loaded(self, activations: int = 0) -> Iterator[Any]:
        """The encoder, on its device as far as the memory allows. activations: bytes that the call will need."""
        host.load_models([self.patcher], activations)
        with torch.no_grad():
            yield self.patcher.model.encoder

    def features(self, inputs: EncoderInputs) -> tuple[Tensor, Tensor | None]:
        """Query features (B, Q, D) and the references' (B, L, D) or None, on the CPU in fp32."""
        with self.loaded(activation_bytes(inputs, self.config, self.dtype)) as encoder:
            query_BQD, reference_BLD = encoder.encode_features(inputs.to(self.patcher.load_device, self.dtype))
        return query_BQD.float().cpu(), None if reference_BLD is None else reference_BLD.float().cpu()

    def connect(self, query_BQD: Tensor, reference_BLD: Tensor | None) -> Tensor:
        """Context (B, L, DiT width), on the CPU in fp32."""
        device = self.patcher.load_device
        with self.loaded() as encoder:
            reference = None if reference_BLD is None else reference_BLD.to(device, self.dtype)
            return encoder.connect(query_BQD.to(device, self.dtype), reference).float().cpu()


class EncoderModule(nn.Module):
    """What the patcher holds. `device` is the host's note of where the model is (transformers' own is read-only)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.device: torch.device | None = None


def check_transformers() -> None:
    """Raises InputError when the host's transformers is too old to have Qwen2.5-VL as we use it."""
    from importlib.metadata import version

    from ...instructx_core.errors import InputError

    have = version("transformers")
    if tuple(int(part) for part in re.findall(r"\d+", have)[:2]) < LEAST_TRANSFORMERS:
        least = ".".join(map(str, LEAST_TRANSFORMERS))
        raise InputError(f"transformers {have} is too old for the encoder; update ComfyUI's Python to {least} or newer")


def load_files(
    adapter: Path,
    files: Sequence[Path],
    tokenizer_of: Callable[[int], Path],
    dtype: torch.dtype,
    devices: tuple[Any, Any],
    position: ReferencePosition | None = None,
) -> tuple[LoadedEncoder, LoadReport]:
    """The encoder in Qwen's `files` with an adapter, and what the adapter's file gave. Opens each file once.

    tokenizer_of(size of the vocabulary). position: of references, against what the adapter says. See load_on_host.
    """
    from ...instructx_core.formats.layouts.adapter import read_adapter
    from ...instructx_core.formats.layouts.checkpoints import open_model
    from ...instructx_core.formats.layouts.weight_file import OpenFiles

    with OpenFiles() as opened:
        stored = read_adapter(open_model(opened, adapter, text_encoder=files), position)
        tokenizer = tokenizer_of(stored.config.mllm.vocab_size)
        return load_on_host(opened.open(files), stored, tokenizer, dtype, devices), stored.report


def load_on_host(
    qwen: WeightFile, stored: Adapter, tokenizer_file: Path, dtype: torch.dtype, devices: tuple[Any, Any]
) -> LoadedEncoder:
    """Read the encoder of an adapter from Qwen's file. devices: (load, offload). InputError when they do not fit."""
    from ...instructx_core.encoder.forward import PlainEncoder
    from ...instructx_core.encoder.tokenizer import load_tokenizer
    from ...instructx_core.formats.layouts.encoder import read_encoder
    from ...instructx_core.formats.layouts.modules import empty_parameters

    check_transformers()
    adapter = adapter_of_file(stored)
    stored.report.log()
    with empty_parameters():
        encoder = PlainEncoder(stored.config)
    read_encoder(encoder, qwen, stored.config, stored.tensors, dtype, devices[1]).log()
    module = EncoderModule(castable(encoder.eval().requires_grad_(False)))
    tokenizer = load_tokenizer(tokenizer_file)
    return LoadedEncoder(host.new_patcher(module, *devices), stored.config, tokenizer, adapter, dtype)


def activation_bytes(inputs: EncoderInputs, config: InstructXConfig, dtype: torch.dtype) -> int:
    """Memory of the largest step of one encode, roughly: what the host must keep free beside the weights."""
    vision, tokens = config.mllm.vision, inputs.input_ids_BL.numel()
    patches = sum(part.shape[1] for part in (inputs.patches_BSP, inputs.reference_patches_BSP) if part is not None)
    size = torch.empty(0, dtype=dtype).element_size()
    tower = patches * (3 * vision.hidden_size + 3 * vision.intermediate_size)  # qkv or the MLP's three
    # q, k in fp32 for the rotation; states and the MLP's three in the model's dtype
    language = tokens * (4 * config.mllm.hidden_size + 3 * config.mllm.intermediate_size)
    return 2 * size * max(tower, language)


# --- layers that the host can offload --------------------------------------------------------------------------------


def castable(model: nn.Module) -> nn.Module:
    """Turns every layer with weights into its casting version, in place. Raises TypeError for an unknown kind of layer.

    Names, weights and results stay; only `forward` learns to fetch weights from the offload device.
    """
    ops = host.cast_ops()
    kinds = {nn.Linear: ops.Linear, nn.Embedding: ops.Embedding, nn.Conv3d: ops.Conv3d, nn.LayerNorm: ops.LayerNorm}
    for name, layer in model.named_modules():
        if not list(layer.parameters(recurse=False)) or isinstance(layer, nn.ParameterDict):
            continue  # the queries are copied to the device as they are used
        if type(layer) in kinds:
            layer.__class__ = kinds[type(layer)]
        elif hasattr(layer, "variance_epsilon"):
            layer.__class__ = _CastingRMSNorm
        else:
            raise TypeError(f"{name} is a {type(layer).__name__}, a layer this pack cannot offload; update the pack")
        layer.weight_function, layer.bias_function = [], []  # type: ignore[assignment]
        if "bias" not in layer._parameters:
            layer.bias = None  # type: ignore[assignment]
    return model


class _CastingRMSNorm(nn.Module):
    """Qwen2.5-VL's RMSNorm (fp32 inside) with its weight fetched from wherever the host keeps it."""

    comfy_cast_weights = True
    variance_epsilon: float
    weight_function: list[Any]

    def forward(self, x: Tensor) -> Tensor:
        # a copy for the functions: the host's patches write into what they are given
        weight = host.cast_to(self.weight, x.dtype, x.device, copy=bool(self.weight_function))
        for function in self.weight_function:
            weight = function(weight)
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return weight * wide.to(x.dtype)
