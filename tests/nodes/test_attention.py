"""Node Attention on the host's own model classes: the override is reached, results stay, clones, the repeated step."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch


@pytest.fixture(scope="module")
def case(comfy: Any, load_helper: Callable[[str, str], ModuleType]) -> ModuleType:
    return load_helper("instructx_test_dit_case", "nodes/dit_case.py")


@pytest.fixture
def node(pack: Callable[[str], ModuleType]) -> ModuleType:
    return pack("nodes.attention")


@pytest.fixture
def made(case: ModuleType, pack: Callable[[str], ModuleType]) -> tuple[Any, Any]:
    """(MODEL of the host, patched for InstructX; tensors of a forward)."""
    config = case.config_of()
    wan = case.Case(config)
    return pack("nodes.parts.model_patch").patch_model(wan.load(), wan.adapter), case.draw(config)


def options(model: Any) -> dict[str, Any]:
    return model.model_options["transformer_options"]


def forward(case: ModuleType, model: Any, given: Any) -> torch.Tensor:
    return case.forward(model, given, options=dict(options(model)))


@pytest.mark.parametrize("mode", ["auto", "exact", "int8"])
def test_on_the_cpu_the_picture_is_the_same(case: Any, node: Any, made: Any, mode: str) -> None:
    model, given = made
    patched, text = node.with_attention(model, mode)
    assert "the host's attention (" in text and f"mode {mode}" in text
    session = options(patched)["optimized_attention_override"].session
    assert torch.equal(forward(case, patched, given), forward(case, model, given))
    assert sum(session.calls().values()) == 4, "self- and cross-attention of two layers came to us"
    assert "optimized_attention_override" not in options(model)


def test_off_takes_it_away(node: Any, made: Any) -> None:
    model, _ = made
    patched, text = node.with_attention(node.with_attention(model, "int8")[0], "off")
    assert "optimized_attention_override" not in options(patched)
    assert text.startswith("the host's attention (switched off)")


def test_twice_replaces_and_clones_share(node: Any, made: Any) -> None:
    model, _ = made
    options(model)["optimized_attention_override"] = previous = lambda func, *args, **kwargs: func(*args, **kwargs)
    once, _ = node.with_attention(model, "int8")
    twice, _ = node.with_attention(once, "exact")
    override = options(twice)["optimized_attention_override"]
    assert override.previous is previous and override.session.mode == "exact"
    assert options(twice.clone())["optimized_attention_override"].session is override.session


def test_containers_of_newer_hosts(node: Any, made: Any) -> None:
    """From 0.32 on one of the host's models (not Wan) hands over q, k and v in containers: the host unpacks them."""
    from comfy.ldm.modules import attention

    container = getattr(attention, "AttentionTensorContainer", None)
    if container is None:
        pytest.skip("this host is older than 0.32 and has no containers")
    patched, _ = node.with_attention(made[0], "auto")
    parts = torch.randn(3, 1, 2, 16, 64, generator=torch.manual_seed(0)).unbind()  # (B, H, S, D) each
    want = attention.optimized_attention(*parts, 2, skip_reshape=True)
    packed = [container(part) for part in parts]
    got = attention.optimized_attention(*packed, 2, skip_reshape=True, transformer_options=options(patched))
    assert torch.equal(got, want)
    assert sum(options(patched)["optimized_attention_override"].session.calls().values()) == 1


def test_a_step_that_is_not_finite_is_repeated(
    case: Any, node: Any, made: Any, pack: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model, given = made
    want = forward(case, model, given)
    patched, _ = node.with_attention(model, "int8")
    override = options(patched)["optimized_attention_override"]
    route = pack("instructx_core.kernels.select").Route("int8", "test")

    def broken(func: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        override.session.count(route, args[0].device)
        return func(*args, **kwargs) * (1.0 if override.session.demoted else float("nan"))

    override.previous = broken
    with caplog.at_level(logging.WARNING, "instructx"):
        assert torch.equal(forward(case, patched, given), want)
    assert caplog.text.count("the step is repeated exactly") == 1


def test_an_unknown_mode_of_the_variable_is_named(
    node: Any, made: Any, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSTRUCTX_ATTENTION", "fast")
    with pytest.raises(pack("instructx_core.errors").InputError, match="INSTRUCTX_ATTENTION=fast is unknown"):
        node.with_attention(made[0], "auto")
