"""Every argument of a call is checked by the table before anything is encoded: value, rule and remedy in one line."""

from __future__ import annotations

import inspect
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from tiny import clip, pipeline

from instructx_core.errors import InputError
from instructx_core.pipeline import InstructXPipeline
from instructx_core.sampling.arguments import RULES, check_argument

NAN, INFINITY = float("nan"), float("inf")


@pytest.fixture(scope="module")
def pipe() -> InstructXPipeline:
    """One whose encoder and VAE must not run."""
    made = pipeline()
    for part in (made.encoder, made.vae.encoder):
        part.register_forward_pre_hook(lambda *_: pytest.fail("encoded before the arguments were checked"))
    return made


def test_every_argument_has_a_rule_or_a_reader() -> None:
    """Source, instruction and reference are checked by edit_batch: tests/sampling/test_batch.py."""
    names = inspect.signature(InstructXPipeline.__call__).parameters.keys() - {"self"}
    assert names - RULES.keys() == {"source", "instruction", "reference"} and not RULES.keys() - names


def test_every_default_is_allowed() -> None:
    parameters = inspect.signature(InstructXPipeline.__call__).parameters
    for name, rule in RULES.items():
        check_argument(name, parameters[name].default)
        assert rule.optional == (parameters[name].default is None), name


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_inference_steps", "1", "is '1', of type str; give a whole number of steps, at least 1"),
        ("num_inference_steps", 1.5, "is 1.5, of type float; give a whole number"),
        ("num_inference_steps", True, "is True, of type bool"),
        ("num_inference_steps", 0, "is 0, of type int"),
        ("num_inference_steps", torch.tensor(3), r"is a tensor \(\) of int64"),
        ("guidance_scale", "x", "is 'x', of type str; give a finite number"),
        ("guidance_scale", NAN, "is nan"),
        ("guidance_scale", -INFINITY, "is -inf"),
        ("guidance_scale", 10**400, r"is 1000\d*\.\.\., of type int"),
        ("guidance_scale", False, "is False"),
        ("guidance_scale", 1j, "of type complex"),
        ("generator", 3, "is 3, of type int; give a torch.Generator"),
        ("generator", [torch.Generator(), 3], "of type list"),
        ("height", "64", "is '64', of type str; give the source's size"),
        ("height", 32.0, "is 32.0"),
        ("width", -48, "is -48"),
        ("fps", "a", "is 'a', of type str; give the clip's frame rate in Hz"),
        ("fps", 0, "is 0"),
        ("fps", NAN, "is nan"),
        ("fps", INFINITY, "is inf"),
        ("sigma_min", "a", r"is 'a', of type str; give a number in \[0, 1\)"),
        ("sigma_min", 1, "is 1"),
        ("sigma_min", NAN, "is nan"),
        ("latents", 5, r"is 5, of type int; give noise as a tensor \(B, C, T, H, W\)"),
        ("latents", torch.full((1, 16, 2, 4, 6), NAN), "float32 with values that are not finite"),
        ("latents", torch.zeros(1, 16, 2, 4, 6, dtype=torch.long), "of int64"),
        ("pinned", "0", "is '0', of type str; give a whole number of latent frames"),
        ("pinned", None, "is None"),
        ("pinned", -1, "is -1"),
        ("context", 5, r"is 5, of type int; give a tensor \(B, L, D\)"),
        ("context", torch.tensor(1.0), r"is a tensor \(\) of float32"),
        ("context", torch.zeros(1, 0, 256), r"is a tensor \(1, 0, 256\)"),
        ("negative_context", np.zeros((1, 8, 256), np.float32), "of type ndarray"),
        ("output_type", "gif", "is 'gif', of type str; give one of np, pt, pil, latent"),
        ("output_type", np.zeros(3), "of type ndarray"),
        ("return_dict", 1, "is 1, of type int; give True or False"),
        ("attention_kwargs", [], "of type list; give a dict of keywords"),
        ("attention_kwargs", {1: 2}, "of type dict"),
        ("callback_on_step_end", 3, "is 3, of type int; give a function"),
        ("callback_on_step_end_tensor_inputs", "latents", "of type str; give a list of names"),
        ("callback_on_step_end_tensor_inputs", [3], "of type list"),
    ],
)
def test_a_wrong_argument_is_named(pipe: Any, name: str, value: object, message: str) -> None:
    instruction = None if name == "context" else "make it blue"
    with pytest.raises(InputError, match=f"^{name} .*{message}") as caught:
        pipe(clip(), instruction, **{name: value})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_inference_steps", np.int64(2)),
        ("guidance_scale", np.float32(2.5)),
        ("guidance_scale", -1),
        ("fps", Fraction(24000, 1001)),
        ("sigma_min", 0),
        ("generator", (torch.Generator(), torch.Generator())),
        ("attention_kwargs", {"scale": 0.5}),
        ("callback_on_step_end_tensor_inputs", []),
    ],
)
def test_what_means_the_same_is_allowed(name: str, value: object) -> None:
    check_argument(name, value)
