"""The override for hosts: layouts, chaining, what the host forbids, the repeated step. No host is needed."""

from __future__ import annotations

import copy
import logging
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from instructx_core.kernels import Session, int8, sdpa
from instructx_core.kernels.override import KEY, AttentionOverride, exact_on_failure, install
from instructx_core.kernels.select import Route

INT8 = Route("int8", "int8 asked for, self-test passed")
B, S, H, D = 2, 6, 3, 64


def host(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    mask: Any = None,
    attn_precision: Any = None,
    skip_reshape: bool = False,
    skip_output_reshape: bool = False,
    scale: float | None = None,
    **others: Any,
) -> Tensor:
    """ComfyUI's attention function, by its documented layouts."""
    host.calls.append(others)
    if not skip_reshape:
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=scale)
    return out if skip_output_reshape else out.transpose(1, 2).flatten(2)


@pytest.fixture(autouse=True)
def card(on_stand_in, good_card: None, monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """A good card whose int8 op is exact math on the CPU; gives the calls of the op."""
    host.calls = []
    seen: list[tuple] = []

    def op(*inputs: Any) -> tuple[Tensor, Tensor]:
        seen.append(inputs)
        return sdpa.attention_lse(*inputs)

    monkeypatch.setattr(int8, "attention_quantizing", op)
    return seen


def flat(tokens: int = S) -> Tensor:
    return torch.randn(B, tokens, H * D, generator=torch.Generator().manual_seed(tokens)).to(torch.bfloat16)


@pytest.mark.parametrize("skip_reshape", [False, True])
@pytest.mark.parametrize("skip_output_reshape", [False, True])
def test_layouts(card: list, skip_reshape: bool, skip_output_reshape: bool) -> None:
    session = Session("int8")
    q = flat() if not skip_reshape else flat().unflatten(-1, (H, D)).transpose(1, 2)
    named = {"skip_reshape": skip_reshape, "skip_output_reshape": skip_output_reshape, "scale": 0.2}
    got = AttentionOverride(session)(host, q, q, q, H, **named, transformer_options={}, _inside_attn_wrapper=True)
    assert not host.calls and len(card) == 1 and card[0][0].shape == (B, S, H, D)
    want = host(q, q, q, H, **named)
    assert got.shape == want.shape
    torch.testing.assert_close(got, want, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ({"mask": torch.zeros(S, S, dtype=torch.bfloat16)}, "attention mask"),
        ({"attn_precision": torch.float32}, "the host asks for float32 here"),
        ({"enable_gqa": True}, "grouped queries"),
        ({"low_precision_attention": False}, "the model forbids low precision here"),
    ],
)
def test_what_stays_with_the_host(card: list, named: dict[str, Any], reason: str) -> None:
    session = Session("int8")
    q = flat()
    AttentionOverride(session)(host, q, q, q, H, **named)
    assert not card and len(host.calls) == 1
    assert list(session.calls()) == [Route("host", reason)]
    if "enable_gqa" in named:
        assert host.calls[0]["enable_gqa"], "the host gets its arguments as they were"


def test_cross_attention_stays_with_the_host(card: list) -> None:
    session = Session("int8")
    AttentionOverride(session)(host, flat(), flat(4), flat(4), H)
    assert not card and list(session.calls()) == [Route("host", "not self-attention")]


def test_chains_the_override_that_was_there(card: list) -> None:
    before = []

    def previous(func: Any, *args: Any, **kwargs: Any) -> Tensor:
        before.append(func)
        return func(*args, **kwargs)

    options = install({KEY: previous, "patches": {}}, Session("int8"))
    q = flat()
    options[KEY](host, q, q, q, H)
    assert not before and len(card) == 1
    options[KEY](host, q, q, q, H, torch.zeros(S, S, dtype=torch.bfloat16))
    assert before == [host] and len(host.calls) == 1
    replaced = install(options, Session("exact"))
    assert replaced[KEY].previous is previous, "ours is replaced, not stacked"
    assert replaced["patches"] is options["patches"]
    assert install(replaced, Session("off"))[KEY] is previous
    assert KEY not in install(install({}, Session("auto")), Session("off"))


def test_copies_of_a_model_share_the_session() -> None:
    override = AttentionOverride(Session("int8"))
    assert copy.deepcopy({"transformer_options": {KEY: override}})["transformer_options"][KEY] is override


def test_a_step_that_is_not_finite_is_repeated_exactly(card: list, caplog: pytest.LogCaptureFixture) -> None:
    session = Session("int8", "WAN21")
    override, q, runs = AttentionOverride(session), flat(), []

    def model(x: Tensor) -> Tensor:
        out = override(host, q, q, q, H)
        runs.append(list(session.calls())[-1].path)
        return out if session.demoted else out * float("nan")

    forward = partial(exact_on_failure, session, model)
    with caplog.at_level(logging.WARNING, "instructx"):
        assert torch.isfinite(forward(q)).all() and torch.isfinite(forward(q)).all()
    assert runs == ["int8", "host", "host"]
    message = "attention of WAN21: the model's output was not finite with int8 attention; the step is repeated exactly"
    assert [r.message for r in caplog.records] == [message]


def test_what_was_not_finite_exactly_stays_as_it_is() -> None:
    runs = []

    def model() -> Tensor:
        runs.append(1)
        return torch.tensor(float("nan"))

    assert exact_on_failure(Session("exact"), model).isnan() and len(runs) == 1
