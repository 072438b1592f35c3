"""What a CPU computes in: no product of an edit, a step or a LoRA is bf16 there unless it was asked for.

Seen by torch itself: every product and convolution that runs is noted with its number format.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from sources import SOURCES
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from instructx_core.commands.model import ModelOptions, add_model_arguments
from instructx_core.data.shapes import ShapesWorld
from instructx_core.precision import dtype_of, usual_dtype
from instructx_core.training.jobs.edit import EditJob
from instructx_core.training.recipes.base import Recipe
from instructx_core.training.recipes.registry import RECIPES
from instructx_core.training.trainer import Trainer
from instructx_core.weights import SHIPPED, load_pipeline

sys.path.insert(0, str(Path(__file__).parent / "support"))
from nano import nano, nano_stage1

HALF = {torch.bfloat16, torch.float16}


class Products(TorchDispatchMode):
    """Number formats of the products that run inside of the block."""

    def __init__(self) -> None:
        super().__init__()
        self.formats: set[torch.dtype] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(part in str(function) for part in ("mm", "matmul", "convolution", "scaled_dot_product")):
            self.formats |= {value.dtype for value in args if isinstance(value, torch.Tensor)}
        return function(*args, **(kwargs or {}))


def test_the_usual_format_of_a_device() -> None:
    assert usual_dtype("cpu") is torch.float32 and usual_dtype(torch.device("cuda", 1)) is torch.bfloat16
    assert dtype_of("auto", "cpu") is torch.float32 and dtype_of("auto", "cuda") is torch.bfloat16
    assert dtype_of("bf16", "cpu") is torch.bfloat16 and dtype_of("fp32", "cuda") is torch.float32


@pytest.mark.parametrize(("has", "wanted"), [(True, torch.bfloat16), (False, torch.float32), (None, torch.float32)])
def test_native_is_bf16_where_the_processor_has_it(
    has: bool | None, wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None: a release of torch that cannot tell."""
    if has is None:
        monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has, raising=False)
    assert dtype_of("native", "cpu") is wanted and dtype_of("native", "cuda") is torch.bfloat16
    assert dtype_of("auto", "cpu") is torch.float32, "what nobody asked for stays"


def test_files_in_bf16_are_edited_with_in_fp32(random_checkpoint: Path) -> None:
    from PIL import Image

    pipe = load_pipeline(random_checkpoint)
    with Products() as products:
        pipe(Image.new("RGB", (32, 32)), "make it blue", num_inference_steps=1)
    assert products.formats == {torch.float32}


@pytest.mark.parametrize(("precision", "half"), [("auto", False), ("bf16", True)])
def test_a_step_of_training(precision: str, half: bool, tmp_path: Path) -> None:
    """A recipe that says nothing computes in fp32 here; one that says bf16 is taken at its word."""
    (tmp_path / "tokenizer.json").write_bytes((SHIPPED / "tokenizer.json").read_bytes())  # training one takes a while
    recipe = nano_stage1(precision=precision, image_validation=1, image_reference_validation=1)
    trainer = Trainer(recipe, EditJob(recipe, nano(), ShapesWorld(), tmp_path), tmp_path / "run")
    with Products() as products:
        trainer.train_step()
    assert products.formats and bool(products.formats & HALF) == half


def test_no_recipe_computes_in_bf16_on_a_cpu_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    fields = {field.name: field.default for field in dataclasses.fields(Recipe)}
    assert fields["precision"] == "auto"
    assert {dtype_of(make().precision, "cpu") for make in RECIPES.values()} == {torch.float32}


def test_who_asks_for_bf16_is_told(caplog: pytest.LogCaptureFixture) -> None:
    parser = argparse.ArgumentParser()
    add_model_arguments(parser)
    with caplog.at_level(logging.WARNING):
        assert ModelOptions.of(parser.parse_args(["--device", "cpu"])).dtype is torch.float32
        assert not caplog.records
        half = parser.parse_args(["--device", "cpu", "--dtype", "bfloat16"])
        assert ModelOptions.of(half).dtype is torch.bfloat16
    assert "many times slower" in caplog.text


def test_weights_of_others_too(tmp_path: Path) -> None:
    """transformers keeps the format of the file."""
    from transformers import ViTConfig, ViTModel

    from instructx_core.synthesis.models.reading import read_part

    sizes: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    ViTModel(ViTConfig(**sizes, image_size=32)).to(torch.bfloat16).save_pretrained(tmp_path)
    part: nn.Module = read_part("ViTModel", str(tmp_path))
    assert {parameter.dtype for parameter in part.parameters()} == {torch.float32}


def test_nobody_else_decides() -> None:
    """A choice between fp32 and bf16 stands in precision.py alone; the nodes ask their host, on cards."""
    for name, source in SOURCES.items():
        for node in ast.walk(source.tree):
            if isinstance(node, ast.IfExp) and {"float32", "bfloat16"} <= {
                each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)
            }:
                assert name == "instructx_core/precision.py", f"{name}:{node.lineno}: ask precision.py"
