"""What the numbers of a file are: the one table of quantisations, and which of them a file has.

Reports, inspect and the reader (quantised.py) all ask `numbers`, so what is named, called readable and read agrees.
Declared in `comfy_quant` tensors or the metadata, else known by the tensors that stand beside the weights.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import InputError
from .tensor_source import TensorSource

FP8_TYPES = ("F8_E4M3", "F8_E5M2")
BLOCK_TYPE = re.compile(r"(I?Q|TQ)\d|MXFP4|NVFP4")  # of GGUF: types that only its package unpacks
MARKER = "scaled_fp8"  # an empty tensor of ComfyUI's older scaled files, one a model
SCALES = (".scale_weight", ".weight_scale")  # of a weight, in either spelling
_DECLARATION = ".comfy_quant"  # tensors of JSON, one a layer
DECLARATIONS = "_quantization_metadata"  # the same in one entry of the metadata
_JSON_LIMIT = 4096  # bytes that describe a layer


@dataclass(frozen=True)
class Quantisation:
    """One way to store weights. title: in reports.

    declared: its word in a declaration. stored: type of its weights where it is read here. mark: ending of a tensor
    that gives it away without a declaration.
    """

    title: str
    declared: str | None = None
    stored: str | None = None
    mark: str | None = None


QUANTISATIONS = (
    Quantisation("fp8_scaled", declared="float8_e4m3fn", stored="F8_E4M3"),
    Quantisation("fp8_scaled", declared="float8_e5m2", stored="F8_E5M2"),
    Quantisation("int8", declared="int8_tensorwise", stored="I8"),
    Quantisation("nvfp4", declared="nvfp4", mark=".weight_scale_2"),
    Quantisation("nvfp4 with smoothing", mark=".pre_quant_scale"),
    Quantisation("asym_w4a8_int8", declared="asym_w4a8_int8", mark=".weight_s_rel"),
    Quantisation("block-wise fp8", mark=".weight_scale_inv"),
    Quantisation("bitsandbytes", mark=".absmax"),
    Quantisation("bitsandbytes", mark=".quant_map"),
    Quantisation("AWQ, GPTQ or SVDQuant", mark=".qweight"),
)
ROTATED = Quantisation("int8 with rotation (convrot)")
MXFP8 = Quantisation("mxfp8", declared="mxfp8")  # known by the type of its scales, F8_E8M0
_DECLARED = {row.declared: row for row in (*QUANTISATIONS, MXFP8) if row.declared is not None}
_MARKED = tuple((row.mark, row) for row in QUANTISATIONS if row.mark is not None)
# What stands beside a quantised weight: no weight of a model.
SIDE_SUFFIXES = (*SCALES, ".scale_input", ".input_scale", _DECLARATION, ".weight_scale_2", ".pre_quant_scale")


@dataclass(frozen=True)
class Numbers:
    """What a file is stored in. quantisation: None for plain numbers. types: stored type -> weights of it, most first.

    foreign: titles of what the library cannot read. declared: layer -> its quantisation, where the file says so.
    """

    quantisation: str | None
    types: Mapping[str, int]
    foreign: tuple[str, ...]
    declared: Mapping[str, Quantisation]

    def __str__(self) -> str:
        """For a report: "BF16", "fp8_scaled (F8_E4M3)", "GGUF (Q4_K, F32)"."""
        if self.quantisation is None:
            return ", ".join(self.types)
        packed = [] if self.quantisation == "GGUF" else [name for name in self.types if is_packed(name)]
        return f"{self.quantisation} ({', '.join(packed[:1] or self.types)})"

    @property
    def counted(self) -> str:
        """With the number of tensors: "BF16", "fp8_scaled (F8_E4M3 300, F16 525)"."""
        if len(self.types) == 1 and self.quantisation is None:
            return next(iter(self.types))
        counted = ", ".join(f"{name} {count}" for name, count in self.types.items())
        return counted if self.quantisation is None else f"{self.quantisation} ({counted})"


def numbers(source: TensorSource) -> Numbers:
    """What a source is stored in. Raises InputError when it describes its quantisation unreadably."""
    declared = {layer: _row(conf) for layer, conf in _declarations(source).items()}
    foreign = {row for row in declared.values() if row.stored is None}
    if not foreign:
        foreign = {row for mark, row in _MARKED if any(key.endswith(mark) for key in source.keys())}
        foreign |= {MXFP8 for key in source.keys() if source.dtype(key) == "F8_E8M0"}
    counted = Counter(source.dtype(key) for key in source.keys() if not is_side_tensor(key))
    types = dict(counted.most_common())
    titles = {row.title for row in (*foreign, *declared.values())}
    return Numbers(
        quantisation="GGUF" if source.container == "GGUF" else ", ".join(sorted(titles)) or _undeclared(source, types),
        types=types,
        foreign=tuple(sorted({row.title for row in foreign})),
        declared=declared,
    )


def is_side_tensor(key: str) -> bool:
    """Whether a tensor stands beside a quantised weight: a scale, a declaration, a marker."""
    return key.endswith(SIDE_SUFFIXES) or is_marker(key)


def is_marker(key: str) -> bool:
    return key.rpartition(".")[2] == MARKER


def is_packed(kind: str) -> bool:
    """Whether a stored type holds numbers that mean something only when they are unpacked."""
    return kind in FP8_TYPES or kind == "I8" or BLOCK_TYPE.match(kind) is not None


def _undeclared(source: TensorSource, types: Mapping[str, int]) -> str | None:
    """The title of what is read here without a declaration; None for plain numbers."""
    packed = [kind for kind in types if is_packed(kind)]
    if not packed:
        return None
    if not any(kind in FP8_TYPES for kind in packed):
        return "int8"
    return "fp8_scaled" if any(key.endswith(SCALES) or is_marker(key) for key in source.keys()) else "fp8"


def _row(conf: Mapping[str, Any]) -> Quantisation:
    """The row of a declaration; one of its own for a format that the table does not have."""
    params = conf.get("params")
    if conf.get("convrot") or (isinstance(params, dict) and params.get("convrot")):
        return ROTATED
    name = str(conf.get("format"))
    return _DECLARED.get(name, Quantisation(name, declared=name))


def _declarations(source: TensorSource) -> dict[str, dict[str, Any]]:
    """Layer -> {"format": ..., ...}, from the metadata or from the `comfy_quant` tensors, JSON in bytes."""
    texts = {
        key.removesuffix(_DECLARATION): bytes(source.get(key).flatten().tolist())
        for key in source.keys()
        if key.endswith(_DECLARATION) and source.dtype(key) == "U8" and math.prod(source.shape(key)) <= _JSON_LIMIT
    }
    unreadable = InputError(f"{source.path.name} describes its quantisation unreadably; use another file")
    try:
        found = {layer: json.loads(text) for layer, text in texts.items()}
        whole = json.loads(source.metadata.get(DECLARATIONS, '{"layers": {}}'))
        found = {**whole["layers"], **found}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise unreadable from None
    if not all(isinstance(conf, dict) for conf in found.values()):
        raise unreadable
    return found
