"""The MllmConfig of a Qwen2.5-VL file, and whether it is the one that an adapter needs. Reads shapes and config.json.

A language model without its vision tower, or of another width, is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ...config import InstructXConfig, MllmConfig, VisionConfig
from ...errors import InputError
from ..containers.json_object import read_json
from .dit_sizes import Shapes, layer_count
from .folders import CONFIG_FILE
from .llama_cpp import LlamaCppSource, is_projector_alone
from .public_models import QWEN_HEAD_DIM, QWEN_SIZES
from .qwen_names import qwen_shapes
from .weight_file import WeightFile

COMPLETE_FILES = (
    "the folder Qwen/Qwen2.5-VL-3B-Instruct of the model hub, or qwen_2.5_vl_fp16.safetensors of OmniGen2's ComfyUI "
    "repackaging if it holds visual.* tensors (instructx inspect says)"
)
Number = TypeVar("Number", int, float)


def infer_mllm(file: WeightFile, config_file: Path | None = None) -> MllmConfig:
    """The MllmConfig of a Qwen2.5-VL: sizes from the shapes, the rest from a config.json, by default beside the file.

    Without one, heads of 128 and Qwen2.5-VL's own RoPE are taken. Raises InputError when the file is no Qwen2.5-VL.
    """
    shapes = qwen_shapes(file.source)
    require_language_model(file, shapes)
    require_vision_tower(file, shapes)
    beside = file.files[0].parent / CONFIG_FILE
    settings_file = config_file or (beside if beside.is_file() else None)
    settings = read_json(settings_file) if settings_file is not None else {}
    text: dict[str, Any] = {**settings, **_table(settings, "text_config")}
    try:
        return _from_shapes(shapes, text, _table(settings, "vision_config"))
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise InputError(
            f"{file.path.name} is no Qwen2.5-VL that can be read ({error}); use {COMPLETE_FILES}"
        ) from None


def _table(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = settings.get(name)
    return value if isinstance(value, dict) else {}


def _from_shapes(shapes: Shapes, text: Mapping[str, Any], tower: Mapping[str, Any]) -> MllmConfig:
    usual, usual_tower = MllmConfig(), VisionConfig()
    layer, block = "language_model.layers.0", "visual.blocks.0"
    vocabulary, width = shapes["language_model.embed_tokens.weight"]
    queries, keys = (shapes[f"{layer}.self_attn.{name}_proj.weight"][0] for name in ("q", "k"))
    heads = _number(text, "num_attention_heads", queries // QWEN_HEAD_DIM)
    rope = {**_table(text, "rope_scaling"), **_table(text, "rope_parameters")}
    patch = shapes["visual.patch_embed.proj.weight"]  # (width, 3, frames, height, width)
    depth = layer_count(shapes, r"visual\.blocks\.(\d+)\.")
    full = tower.get("fullatt_block_indexes", usual_tower.full_attention_blocks)
    vision = VisionConfig(
        depth=depth,
        hidden_size=patch[0],
        intermediate_size=shapes[f"{block}.mlp.gate_proj.weight"][0],
        num_heads=_number(tower, "num_heads", usual_tower.num_heads),
        patch_size=patch[3],
        temporal_patch_size=patch[2],
        spatial_merge_size=_number(tower, "spatial_merge_size", usual_tower.spatial_merge_size),
        window_size=_number(tower, "window_size", usual_tower.window_size),
        full_attention_blocks=tuple(int(index) for index in full if int(index) < depth),
        tokens_per_second=_number(tower, "tokens_per_second", usual_tower.tokens_per_second),
    )
    return MllmConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=shapes[f"{layer}.mlp.gate_proj.weight"][0],
        num_layers=layer_count(shapes, r"language_model\.layers\.(\d+)\."),
        num_heads=heads,
        num_kv_heads=keys * heads // queries,
        rope_theta=_number(rope, "rope_theta", _number(text, "rope_theta", usual.rope_theta)),
        mrope_section=tuple(rope.get("mrope_section", usual.mrope_section)),
        rms_norm_eps=_number(text, "rms_norm_eps", usual.rms_norm_eps),
        vision=vision,
    )


def _number(table: Mapping[str, Any], name: str, usual: Number) -> Number:
    """A number above 0 out of a config, of the type of `usual`. Raises ValueError for anything else."""
    value, kind = table.get(name, usual), type(usual)
    if type(value) not in (int, float) or not value > 0 or kind(value) != value:
        raise ValueError(f"{name} is {str(value)[:40]!r}")
    return kind(value)


def check_encoder(file: WeightFile, config: InstructXConfig) -> None:
    """Raises InputError when the file holds another Qwen than `config` needs. Reads shapes only."""
    shapes, want = qwen_shapes(file.source), config.mllm
    require_language_model(file, shapes)
    width = shapes["language_model.embed_tokens.weight"][-1]
    if width != want.hidden_size:
        have, need = (
            f"width {w}" + (f" (Qwen2.5-VL-{QWEN_SIZES[w]})" if w in QWEN_SIZES else "")
            for w in (width, want.hidden_size)
        )
        raise InputError(
            f"{file.path.name} has {have}, but the adapter {config.name} needs {need}; choose that encoder, or an "
            "adapter made for this one"
        )
    require_vision_tower(file, shapes)


def require_language_model(file: WeightFile, shapes: Shapes) -> None:
    """Raises InputError when the file holds no language model. shapes: qwen_shapes of it."""
    if is_projector_alone(file.source):
        raise InputError(f"{file.path.name} is the vision tower alone; choose the language model's file beside it")
    if len(shapes.get("language_model.embed_tokens.weight", ())) != 2:
        raise InputError(
            f"{file.path.name} holds no language model (no embed_tokens); choose a Qwen2.5-VL file: {COMPLETE_FILES}"
        )


def require_vision_tower(file: WeightFile, shapes: Shapes) -> None:
    """Raises InputError when the file holds a language model alone. shapes: qwen_shapes of it."""
    if not any(name.startswith("visual.") for name in shapes):
        if isinstance(file.source, LlamaCppSource):
            raise InputError(
                f"{file.path.name} has no vision tower, so it cannot see the source; put the mmproj file of the same "
                "model into its folder"
            )
        raise InputError(
            f"{file.path.name} has no vision tower (no visual.* tensors), so it cannot see the source; choose a "
            f"complete Qwen2.5-VL, not the language model alone: {COMPLETE_FILES}"
        )
