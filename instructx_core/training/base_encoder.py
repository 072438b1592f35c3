"""Where the tensors of an encoder come from at paper size: a public file, or noise where the design adds them.

Beside base.py. Qwen2.5-VL is public, and so is umT5-XXL, which Wan was trained with; queries, connectors and the
Q-Former are in no file. The paper does not say that its Q-Former was trained before (3.2), and BLIP-2's does not fit:
it has 32 tokens, and reads features of another width than the MLLM's. So it starts as noise, as MetaQuery's connector.
"""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch import Tensor, nn

from ..config import InstructXConfig
from ..errors import InputError, some
from ..formats.layouts.encoder import mllm_places
from ..formats.layouts.qwen_config import check_encoder
from ..formats.layouts.text_encoder import PREFIX, TIED
from ..formats.layouts.weight_file import WeightFile
from . import rng
from .filling import Rows, finite_rows

ADDED = ("encoder.queries.", "encoder.connector.", "encoder.reference_connector.", "denoiser.source_embedder.")


def check_encoder_file(file: WeightFile, encoder: Any, config: InstructXConfig) -> None:
    """Raises InputError for a file of another model, before any of it is read in full."""
    if encoder.mllm is None:
        _text_encoder_places(file, encoder)
        return
    check_encoder(file, config)
    places = mllm_places(file.plain, encoder)
    missing = [name for name in encoder.mllm.state_dict() if name not in places]
    if missing:
        raise InputError(f"{file.path.name} lacks {len(missing)} tensors ({some(missing)}); download it again")


def encoder_rows(file: WeightFile, encoder: Any) -> dict[str, Rows]:
    """The rows of every tensor of the encoder that its public file holds, by its name in ModuleDict(encoder=...)."""
    if encoder.mllm is None:
        shapes = {name: tuple(parameter.shape) for name, parameter in encoder.named_parameters()}
        places = _text_encoder_places(file, encoder)
        return {f"encoder.{name}": finite_rows(file.plain, key, shapes[name]) for name, key in places.items()}
    shapes = {name: tuple(parameter.shape) for name, parameter in encoder.mllm.named_parameters()}
    plain = {name.replace(".base_layer.", "."): name for name in shapes}
    return {
        f"encoder.mllm.{plain[name]}": finite_rows(file.plain, key, shapes[plain[name]])
        for name, key in mllm_places(file.plain, encoder).items()
        if name in plain
    }


def _text_encoder_places(file: WeightFile, encoder: nn.Module) -> dict[str, str]:
    """Name in a T5Encoder -> name in the file of its UMT5. Raises InputError for what is not there or does not fit."""
    source = file.plain
    there = set(source.keys())
    places, other = dict[str, str](), list[str]()
    for name, parameter in encoder.named_parameters():
        key = name.removeprefix(PREFIX)
        key = "shared.weight" if key == TIED and key not in there else key
        if key not in there or source.shape(key) != tuple(parameter.shape):
            other.append(key)
        places[name] = key
    if other:
        raise InputError(
            f"{file.path.name} is no text encoder of this model: {len(other)} tensors are missing or of another shape "
            f"({some(other)}); the design t5 takes umT5-XXL, as it lies beside Wan: give --part text_encoder=FILE, and "
            "its tokenizer.json as --part tokenizer=FILE"
        )
    return places


def new_rows(root: nn.Module, seed: int) -> dict[str, Rows]:
    """The start of what is in no file, from (seed, name), so that it does not depend on who holds which rows."""
    return {
        name: _new(name, tuple(parameter.shape), seed)
        for name, parameter in root.named_parameters()
        if ".lora_" in name or name.startswith(ADDED)
    }


def _new(name: str, shape: tuple[int, ...], seed: int) -> Rows:
    """Zeros for LoRA B, biases and the source embedder; ones for norms; normal noise of std 0.02 for queries and for a
    Q-Former, as transformers starts it; else torch's usual uniform noise by the number of inputs. None of it is in the
    paper."""

    def draw(start: int, stop: int) -> Tensor:
        if ".lora_B." in name or name.endswith("bias") or "source_embedder" in name:
            return torch.zeros(stop - start, *shape[1:])
        if len(shape) == 1:
            return torch.ones(stop - start)
        generator = rng.torch_generator(seed, zlib.crc32(name.encode()))
        if ".queries." in name or name.endswith("tokens_QD") or ".connector.model." in name:
            return torch.randn(shape, generator=generator)[start:stop] * 0.02
        bound = shape[1] ** -0.5
        return torch.rand(shape, generator=generator)[start:stop] * (2 * bound) - bound

    return draw
