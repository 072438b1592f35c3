"""`instructx edit`: a flag for each option, and the key by which --jobs knows a model."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from instructx_core.commands.edit import add_arguments, given_options, key_of_model
from instructx_core.commands.model import ModelOptions
from instructx_core.commands.speed import SpeedOptions
from instructx_core.editing import options as module
from instructx_core.editing.options import option_types
from instructx_core.editing.windows.options import CONTEXTS
from instructx_core.editing.windows.plan import JOINS
from instructx_core.fields import NO_RESULT
from instructx_core.speed.step_cache import StepCache


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser


def test_every_option_has_a_flag_of_its_type(parser: argparse.ArgumentParser) -> None:
    flags = {action.dest: action for action in parser._actions}
    for name, types in option_types().items():
        assert name in flags, f"{name} has no flag in commands/edit.py"
        kind = bool if flags[name].nargs == 0 else flags[name].type or str
        assert kind is (float if float in types else types[0]), name
    assert tuple(flags["context"].choices or ()) == CONTEXTS and tuple(flags["joins"].choices or ()) == JOINS


def test_an_option_without_a_flag_is_not_given(
    parser: argparse.ArgumentParser, monkeypatch: pytest.MonkeyPatch
) -> None:
    types = {**option_types(), "new": (int,)}
    monkeypatch.setattr(module, "option_types", lambda: types)
    assert given_options(parser.parse_args(["--steps", "3", "--partial"])) == {"steps": 3, "partial": True, "seed": 0}


def test_every_option_of_the_model_is_in_its_key(tmp_path: Path) -> None:
    """But for those marked as changing nothing; files count by content."""
    for name, content in (("a", b"1"), ("same", b"1"), ("b", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b = tmp_path / "a", tmp_path / "b"
    speed = SpeedOptions(cache=None, reuse=None, offload="none", fp8=False, compile=False)
    plain = ModelOptions(a, {}, (), "all", torch.device("cpu"), torch.float32, "auto", "auto", "euler", speed)
    others: dict[str, Any] = {
        "model": b, "parts": {"vae": a}, "loras": ((a, 1.0),), "lora_layers": "self", "dtype": torch.bfloat16,
        "attention": "off", "tile": "on", "scheduler": "unipc", "device": torch.device("meta"),
    }  # fmt: skip
    of_speed: dict[str, Any] = {
        "cache": StepCache.parse("mag:0.1"), "fp8": True, "reuse": tmp_path, "offload": "model", "compile": True,
    }  # fmt: skip
    changed = {name: dataclasses.replace(plain, **{name: value}) for name, value in others.items()}
    for name, value in of_speed.items():
        changed[name] = dataclasses.replace(plain, speed=dataclasses.replace(speed, **{name: value}))
    fields = {f.name: f for kind in (ModelOptions, SpeedOptions) for f in dataclasses.fields(kind)}
    assert changed.keys() == fields.keys() - {"speed"}, "a new option: test it"
    same = {name for name, options in changed.items() if key_of_model(options) == key_of_model(plain)}
    assert same == {name for name, field in fields.items() if field.metadata.get(NO_RESULT)}
    assert same == {"device", "reuse", "offload", "compile"}
    assert len({key_of_model(options) for options in changed.values()}) == len(changed) - len(same) + 1
    moved = dataclasses.replace(plain, model=tmp_path / "same")
    assert key_of_model(moved) == key_of_model(plain), "names do not count"
    lora = dataclasses.replace(plain, loras=((a, 0.5),))
    assert key_of_model(lora) not in (key_of_model(changed["loras"]), key_of_model(plain))
