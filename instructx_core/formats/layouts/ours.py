"""The adapter file of ours: queries, connectors, LoRA of the MLLM, embedders; every switch in its metadata."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ...config import DESIGNS, EMBEDDERS, InstructXConfig, ReferencePosition
from ...errors import InputError
from ..containers.strict import read_weight
from .added_shapes import connector_widths, lora_text, query_counts
from .checkpoint_layout import Adapter, CheckpointLayout, OpenModel
from .identity import Header, Identity, listed
from .kiwi_config import reference_position
from .public_models import qwen_size
from .report import LoadReport
from .weight_file import OpenFiles, WeightFile


def _read(model: OpenModel, position: ReferencePosition | None) -> Adapter:
    file = model.opened.open(model.path)
    config = file.config
    if config is None:
        raise InputError(
            f"{file.path.name} carries no InstructX config; it is not an adapter file, use the shipped one"
        )
    source = file.plain
    tensors = {key: read_weight(source, key) for key in source.keys()}
    if position is not None:
        reference_position(None, "", position)
        config = dataclasses.replace(config, denoiser=dataclasses.replace(config.denoiser, reference_position=position))
    kind = f"InstructX adapter {config.name} ({config.profile})"
    return Adapter(file.path, config, tensors, LoadReport(files=file.files, kind=kind, consumed=tuple(tensors)))


def _files(_: OpenFiles, path: Path) -> dict[str, Path]:
    return {"adapter": path}


def _dit(opened: OpenFiles, path: Path) -> WeightFile:
    return opened.open(path)


def _tell(opened: OpenFiles, path: Path) -> Identity | None:
    file = opened.open(path)
    header, config = file.once(Header), file.config
    if config is not None and config.design.kind != "queries":
        return _tell_design(header, config) if _is_of_design(header, config.design.kind) else None
    queries = query_counts(header.shapes, r"queries\.(\w+)")
    width, dim = connector_widths(header.shapes, r"connector\.(\d+)\.weight")
    if not queries or not dim:
        return None
    facts = (
        *(header.config_fact or (("config", "none: it is not complete, save it again"),)),
        ("queries", listed(queries)),
        ("connector", f"{width} -> {dim}"),
        ("MLLM LoRA", lora_text(header.shapes)),
        ("embedders", _embedders(header)),
    )
    channels = header.shapes.get("source_embedder.weight", (0, None))[1]
    values = {"dim": dim, "hidden_size": width, "channels": channels, "queries": queries}
    needs = (
        f"a Wan DiT of width {dim} and its VAE",
        f"Qwen2.5-VL {qwen_size(width)} with its vision tower",
    )
    takers = (
        "node Load Encoder (InstructX), file in models/model_patches",
        "instructx edit --model FOLDER, file in FOLDER/model_patches",
    )
    return header.identity("adapter", "InstructX adapter", facts, needs, takers, values)


def _embedders(header: Header) -> str:
    return ", ".join(name for name in EMBEDDERS if f"{name}.weight" in header.shapes) or "none of its own"


def _is_of_design(header: Header, kind: str) -> bool:
    """Whether it is the adapter; the other files of the model carry the same config."""
    if kind == "t5":
        return all(key.startswith(("text_encoder.widen.", *EMBEDDERS)) for key in header.shapes)
    return any(key.startswith("connector.") for key in header.shapes)


def _tell_design(header: Header, config: InstructXConfig) -> Identity:
    """A design that is only for the study; its config says what its tensors are."""
    kind, dim, width = config.design.kind, config.denoiser.dim, config.mllm.hidden_size
    facts = (*header.config_fact, ("design", f"{kind}: {DESIGNS[kind]}"), ("embedders", _embedders(header)))
    values = {"dim": dim, "hidden_size": width, "channels": config.vae.z_dim, "design": kind}
    words = "UMT5" if kind == "t5" else f"Qwen2.5-VL {qwen_size(width)} with its vision tower"
    needs = (f"a Wan DiT of width {dim} and its VAE", words)
    takers = ("instructx edit --model FOLDER, file in FOLDER/model_patches",)
    title = f"InstructX adapter of the design {kind}, for the study; ComfyUI does not run it"
    return header.identity("adapter", title, facts, needs, takers, values)


OURS = CheckpointLayout(kind="adapter", files=_files, adapter=_read, dit=_dit, tell=_tell)
