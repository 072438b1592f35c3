"""UMT5 from a file in the names of transformers -> the encoder of design (a) of the study (encoder/t5.py).

Its one own tensor, which widens a small UMT5, comes from the adapter.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...config import EMBEDDERS
from ..containers.strict import read_weight
from .modules import assign_tensors
from .report import LoadReport
from .weight_file import WeightFile

PREFIX = "text_encoder.model."
TIED = "encoder.embed_tokens.weight"  # the same tensor as shared.weight; files may hold both


def text_encoder_state(module: nn.Module) -> dict[str, Tensor]:
    """What a file of the text encoder holds."""
    named = {name.removeprefix(PREFIX): value for name, value in module.state_dict().items() if name.startswith(PREFIX)}
    return {name: value for name, value in named.items() if name != TIED}


def read_text_encoder(
    module: nn.Module,
    file: WeightFile,
    adapter: Mapping[str, Tensor],
    dtype: torch.dtype,
    device: str | torch.device = "cpu",
) -> LoadReport:
    """Weights of a UMT5 and an adapter into `module`, a T5Encoder built under empty_parameters().

    Raises InputError when tensors do not fit or are not finite.
    """
    source = file.plain
    used = tuple(key for key in source.keys() if key != TIED and not key.startswith("decoder."))
    state = {PREFIX + key: read_weight(source, key, device, dtype) for key in used}
    shared = state.get(f"{PREFIX}shared.weight")
    if shared is not None and PREFIX + TIED in module.state_dict():
        state[PREFIX + TIED] = shared
    state |= {name: value.to(device, dtype) for name, value in adapter.items() if not name.startswith(EMBEDDERS)}
    assign_tensors(file.path, module, state, lambda name: name.removeprefix(PREFIX))
    ignored = tuple(key for key in source.keys() if key not in used)
    return LoadReport(files=source.files, kind=f"UMT5, {file.numbers}", consumed=used, ignored=ignored)
