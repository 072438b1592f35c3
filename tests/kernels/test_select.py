"""Which attention is chosen, and the reason that goes with it, for every kind of card and call. Nothing runs here."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from instructx_core.kernels import Session, abi, attention, attention_lse, report, resolve_mode, select
from instructx_core.kernels.operands import Inputs
from instructx_core.kernels.select import Route
from instructx_core.kernels.trial import Trial

BF16 = torch.bfloat16


def qkv(tokens: int = 4096, dim: int = 128, dtype: torch.dtype = BF16, keys: int | None = None, device: str = "cpu"):
    def one(count: int) -> torch.Tensor:
        return torch.empty(1, dtype=dtype, device=device).expand(1, count, 2, dim)

    return one(tokens), one(keys or tokens), one(keys or tokens)


@pytest.fixture
def card(on_stand_in, good, monkeypatch: pytest.MonkeyPatch):
    """card(...): the judgement that this card has, fields of Verdict changed."""

    def use(**changes: object) -> None:
        monkeypatch.setattr(select, "verdict", lambda device, again=False: replace(good, **changes))

    use()
    return use


def test_auto_prefers_what_was_measured_fastest(card) -> None:
    inputs = Inputs.of(*qkv())
    card(milliseconds={"int8": 5.0, "exact": 11.0, "host": 10.0})
    assert select.route(inputs, "auto") == Route("int8", "2.0x the speed of SDPA measured, self-test error 0.9%")
    card(milliseconds={"int8": 9.5, "exact": 11.0, "host": 10.0})
    route = select.route(inputs, "auto")
    assert route == Route("host", "int8 measured 1.05x the speed of SDPA, 1.1x is needed")
    card(milliseconds={"int8": 5.0, "host": 10.0, "comfy-kitchen": 4.0})
    assert select.route(inputs, "auto").path == "comfy-kitchen"
    card(milliseconds={"int8": 5.0, "host": 10.0, "comfy-kitchen": 6.0})
    assert select.route(inputs, "auto").path == "int8"
    card(milliseconds={"int8": 20.0, "exact": 5.0, "host": 10.0})  # no flash kernel in torch, as on old Windows builds
    assert select.route(inputs, "auto").path == "exact"


@pytest.mark.parametrize(
    ("capability", "path"), [((8, 0), "int8"), ((8, 6), "int8"), ((12, 0), "int8"), ((9, 0), "host"), ((10, 0), "host")]
)
def test_auto_without_a_measurement(card, capability: tuple[int, int], path: str) -> None:
    card(capability=capability)
    route = select.route(Inputs.of(*qkv()), "auto")
    assert route.path == path and ("not measured" in route.reason or "prefers SDPA unless" in route.reason)


def test_hopper_takes_int8_when_it_was_measured_faster(card) -> None:
    card(capability=(9, 0), milliseconds={"int8": 5.0, "host": 10.0})
    assert select.route(Inputs.of(*qkv()), "auto").path == "int8"
    card(capability=(9, 0), milliseconds={"int8": 10.0, "host": 5.0})
    assert select.route(Inputs.of(*qkv()), "auto").path == "host"


def test_modes(card) -> None:
    card(milliseconds={"int8": 20.0, "exact": 11.0, "host": 10.0})
    inputs = Inputs.of(*qkv())
    assert select.route(inputs, "off") == Route("host", "switched off")
    assert select.route(inputs, "exact") == Route("host", "exact asked for")
    assert select.route(inputs, "int8") == Route("int8", "int8 asked for, self-test passed")
    assert select.route(inputs, "int8", low_precision=False) == Route("host", "the model forbids low precision here")


def test_a_failed_self_test_switches_the_path_off(card) -> None:
    card(problems={"int8": "self-test failed"})
    for mode in ("auto", "int8"):
        assert select.route(Inputs.of(*qkv()), mode) == Route("host", "self-test failed")
    card(problems={"int8": "no compiler", "exact": "no compiler"})
    assert select.route(Inputs.of(*qkv()), "auto", need_lse=True) == Route("host", "no compiler")


def test_what_the_exact_kernel_is_for(card) -> None:
    keys = qkv()
    assert select.route(Inputs.of(*keys), "exact", need_lse=True).path == "exact"
    assert select.route(Inputs.of(*keys, key_bias=torch.zeros(1, 1, 4096)), "auto").path == "exact"
    assert select.route(Inputs.of(*keys, extra_k=keys[1]), "exact").path == "exact"
    assert select.route(Inputs.of(*keys, extra_k=keys[1]), "auto").path == "int8"
    card(capability=(9, 0))
    assert select.route(Inputs.of(*keys, extra_k=keys[1]), "exact") == Route("host", "exact asked for")
    assert select.route(Inputs.of(*keys), "exact", need_lse=True).path == "exact"


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        (qkv(dtype=torch.float32), "float32 tensors (bfloat16 and float16 are supported)"),
        (qkv(dim=96), "head dim 96 (64 and 128 are supported)"),
        (qkv(tokens=512), "fewer than 2048 tokens"),
        (qkv(keys=512), "fewer than 2048 tokens"),
        (qkv(device="meta"), "tensors are on meta, the kernels run on cpu"),
        ((qkv()[0], qkv(dtype=torch.float16)[1], qkv()[2]), "q, k and v differ in dtype or device"),
        ((qkv()[0], qkv()[1][:, :, :1], qkv()[2][:, :, :1]), "2 query heads and 1 key heads"),
        ((qkv()[0], qkv()[1][:, :0], qkv()[2][:, :0]), "empty tensors"),
    ],
)
def test_what_falls_back_says_why(card, inputs, reason: str) -> None:
    assert select.route(Inputs.of(*inputs), "int8") == Route("host", reason)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [resolve_mode(mode) for mode in ("auto", "exact", "int8", "off")] == ["auto", "exact", "int8", "off"]
    monkeypatch.setenv("INSTRUCTX_ATTENTION", "exact")
    assert [resolve_mode(mode) for mode in ("auto", "int8")] == ["exact", "int8"]
    monkeypatch.setenv("INSTRUCTX_ATTENTION", "OFF")
    assert [resolve_mode(mode) for mode in ("auto", "int8")] == ["off", "off"]
    monkeypatch.setenv("INSTRUCTX_ATTENTION", "fast")
    with pytest.raises(ValueError, match="INSTRUCTX_ATTENTION=fast is unknown; use one of auto, exact, int8, off"):
        resolve_mode()
    with pytest.raises(ValueError, match="attention mode 'turbo' is unknown"):
        resolve_mode("turbo")


# --- judging a card ------------------------------------------------------------------------------------------------


@pytest.fixture
def measured(on_stand_in, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Paths of every self-test, which finds small errors."""
    calls: list[str] = []

    def run(device: torch.device) -> dict[str, Trial]:
        calls.extend(("exact", "int8"))
        return {path: Trial({"random/128": 0.001, "outlier/128": 0.003}) for path in ("exact", "int8")}

    monkeypatch.setattr(select.trial, "run_trials", run)
    yield calls


def test_a_card_is_judged_once_and_remembered(measured: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    assert select.known_verdict(device) is None
    first = select.verdict(device)
    assert first.errors == {"exact": 0.003, "int8": 0.003} and not first.problems
    assert select.verdict(device) is first and measured == ["exact", "int8"]
    monkeypatch.setattr(select, "_verdicts", {})  # another process
    assert select.verdict(device) == first and measured == ["exact", "int8"]
    select.verdict(device, again=True)
    assert measured == ["exact", "int8"] * 2


def test_another_driver_or_source_is_judged_anew(measured: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    select.verdict(device)
    monkeypatch.setattr(select, "sources_digest", lambda: "other sources")
    select.verdict(device)
    assert measured == ["exact", "int8"] * 2


def test_a_wrong_result_disables_and_warns(
    measured: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = {"exact": Trial({"random/64": 0.001}), "int8": Trial({"random/64": float("inf")})}
    monkeypatch.setattr(select.trial, "run_trials", lambda device: wrong)
    found = select.verdict(torch.device("cpu"))
    assert list(found.problems) == ["int8"] and "error inf% in random/64, allowed 1.80%" in found.problems["int8"]
    assert "please report it" in caplog.text


def test_what_does_not_run_is_tried_again_next_time(measured, monkeypatch: pytest.MonkeyPatch) -> None:
    fails = {path: Trial(problem="no compiler", lasting=False) for path in ("exact", "int8")}
    device = torch.device("cpu")
    monkeypatch.setattr(select.trial, "run_trials", lambda device: fails)
    assert select.verdict(device).problems == {"exact": "no compiler", "int8": "no compiler"}
    monkeypatch.setattr(select, "_verdicts", {})
    works = {path: Trial({"random/64": 0.001}) for path in ("exact", "int8")}
    monkeypatch.setattr(select.trial, "run_trials", lambda device: works)
    assert not select.verdict(device).problems


# --- sessions ------------------------------------------------------------------------------------------------------


def test_one_log_line_and_every_call_counted(card, caplog: pytest.LogCaptureFixture) -> None:
    session = Session("exact", "Wan")
    with caplog.at_level(logging.INFO, "instructx"):
        for tokens in (2048, 2048, 16):
            session.attend(Inputs.of(*(torch.zeros(1, tokens, 1, 64, dtype=BF16) for _ in range(3))))
    assert [r.message for r in caplog.records] == ["attention of Wan: pytorch SDPA (exact asked for)"]
    assert session.report().splitlines() == [
        "attention of Wan: mode exact, Stand-in 0, sm_89, driver 13.0",
        "2 calls: pytorch SDPA (exact asked for)",
        "1 calls: pytorch SDPA (fewer than 2048 tokens)",
    ]


def test_a_launch_that_fails_falls_back_and_is_not_tried_again(on_stand_in, good, stand_in, caplog) -> None:
    select._verdicts[select._key(torch.device("cpu"))] = replace(good, problems={})
    stand_in.break_("cuLaunchKernel")
    session = Session("int8", "Wan")
    q = torch.randn(1, 2048, 1, 64).to(BF16)
    out = session.attend(Inputs.of(q, q, q))
    expected = torch.nn.functional.scaled_dot_product_attention(*[q.transpose(1, 2)] * 3).transpose(1, 2)
    assert torch.equal(out, expected)
    session.attend(Inputs.of(q, q, q))
    (route,) = session.calls()
    assert route.path == "host" and route.reason.startswith("cuLaunchKernel failed") and "switched off" in caplog.text


@pytest.mark.parametrize("code", [2, 900, 906])
def test_a_refused_call_switches_nothing_off(on_stand_in, stand_in, good, code: int, monkeypatch, caplog) -> None:
    """No memory, or a graph that captures: the call runs on torch, the next one on the kernel again."""
    monkeypatch.setattr(select, "verdict", lambda device, again=False: good)
    session, q = Session("int8", "Wan"), torch.randn(1, 2048, 1, 64).to(BF16)
    stand_in.break_("cuLaunchKernel")
    stand_in.lib.stand_in_code(code)
    for _ in range(2):
        session.attend(Inputs.of(q, q, q))
    stand_in.break_("")
    session.attend(Inputs.of(q, q, q))
    assert sorted((route.path, count) for route, count in session.calls().items()) == [("host", 2), ("int8", 1)]
    assert caplog.text.count("such calls run on pytorch SDPA") == 1 and not good.problems


@pytest.mark.parametrize(("mode", "path"), [("int8", "int8"), ("exact", "exact")])
def test_a_new_shape_counts_as_its_own(on_stand_in, good, monkeypatch, caplog, mode: str, path: str) -> None:
    """A batch beyond what a grid can have is refused each time, and other shapes run on the kernel in between."""
    monkeypatch.setattr(select, "MIN_TOKENS", 1)
    known = select._verdicts[select._key(torch.device("cpu"))] = replace(good, problems={})
    session = Session(mode, "Wan")
    too_many, other, third = (
        torch.zeros(shape, dtype=BF16) for shape in ((70_000, 1, 1, 64), (2, 9, 3, 64), (1, 5, 1, 128))
    )
    for q in (too_many, other, too_many, third, too_many):
        session.attend_lse(Inputs.of(q, q, q))
    calls = {route.path: count for route, count in session.calls().items()}
    assert calls == {"host": 3, path: 2} and not known.problems
    assert caplog.text.count("such calls run on pytorch SDPA") == 1, "the first one warns"


def test_kernels_that_cannot_be_loaded_yet_are_loaded_later(measured: list[str], stand_in) -> None:
    """Another thread captures a graph while the card is judged: this call is refused, the next one runs."""
    q = torch.zeros(1, 2048, 1, 64, dtype=BF16)
    session = Session("int8", "Wan")
    stand_in.break_("cuLibraryLoadData")
    stand_in.lib.stand_in_code(900)  # CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
    session.attend(Inputs.of(q, q, q))
    assert not select.verdict(torch.device("cpu")).problems
    stand_in.break_("")
    session.attend(Inputs.of(q, q, q))
    assert sorted((route.path, count) for route, count in session.calls().items()) == [("host", 1), ("int8", 1)]
    stand_in.break_("cuLibraryLoadData")
    assert select.verdict(torch.device("cpu")).problems == {}, "loaded once, all of them"
    session.attend(Inputs.of(q[:, :, :, :32].repeat(1, 1, 1, 4), *[q.repeat(1, 1, 1, 2)] * 2))
    assert sum(session.calls().values()) == 3 and max(session.calls().values()) == 2


def test_no_memory_for_tensors_is_a_reason_too(on_stand_in, good, monkeypatch, caplog) -> None:
    def none_left(*args: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 1.5 GiB")

    monkeypatch.setattr(select, "verdict", lambda device, again=False: good)
    monkeypatch.setattr("instructx_core.kernels.int8.attention_quantizing", none_left)
    session, q = Session("int8", "Wan"), torch.randn(1, 2048, 1, 64).to(BF16)
    session.attend(Inputs.of(q, q, q))
    assert list(session.calls()) == [Route("host", "int8 found too little memory")] and not good.problems


def test_every_kernel_is_loaded_with_the_judgement(measured: list[str], stand_in, on_stand_in) -> None:
    """So that a capture may begin with any of them, with any number of heads."""
    select.verdict(torch.device("cpu"))
    stand_in.break_("cuLibraryLoadData")
    for name, kernel in abi.KERNELS.items():
        for heads in (1, 40, 120):
            on_stand_in.launch(name, kernel.args(), (1, 1, 1), torch.device("cpu"), heads)
    assert len(stand_in.launches()) == 3 * len(abi.KERNELS)


def test_demotion_needs_something_inexact(card) -> None:
    session = Session("int8")
    assert not session.demote("not finite"), "nothing ran yet"
    session.count(Route("int8", "asked for"), torch.device("cpu"))
    assert session.inexact and session.demote("not finite") and not session.demote("not finite")
    assert not session.inexact
    assert session.route(Inputs(*qkv(), 0.1)) == Route("host", "not finite")


def test_the_hosts_own_attention_is_timed_once_and_beaten_or_used(card, monkeypatch: pytest.MonkeyPatch) -> None:
    card(milliseconds={"int8": 5.0, "exact": 11.0, "host": 10.0})
    timed: list[object] = []
    monkeypatch.setattr(select.bench, "random_qkv", lambda *args: qkv(8))
    monkeypatch.setattr(select.bench, "time_cuda", lambda attend, *args, **named: timed.append(attend) or 4.0)
    session, inputs = Session("auto", host_name="sage"), Inputs(*qkv(), 0.1)
    session.probe = lambda q, k, v: q
    for _ in range(2):
        assert session.route(inputs) == Route("host", "int8 measured 0.80x the speed of sage, 1.1x is needed")
    assert timed == [session.probe]
    forced = Session("int8", host_name="sage")
    forced.probe = session.probe
    assert forced.route(inputs).path == "int8" and len(timed) == 1


def test_preview_says_what_would_run(card) -> None:
    assert Session("auto", host_name="sage").preview(torch.device("cpu"), BF16) == (
        "instructx int8 (self-test passed, error 0.9%; speed not measured)\nStand-in 0, sm_89, driver 13.0, mode auto"
    )
    assert Session("auto").preview(torch.device("cpu"), torch.float32).startswith("pytorch SDPA (float32 tensors")


# --- without any card ----------------------------------------------------------------------------------------------


def test_without_a_card_everything_runs_on_torch() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a card")
    q, k, v = (torch.randn(2, 5, 3, 64, requires_grad=True) for _ in range(3))
    extra = torch.randn(2, 4, 3, 64)
    bias = torch.randn(2, 1, 9)
    out, lse = attention_lse(q, k, v, key_bias=bias, extra_k=extra, extra_v=extra, mode="int8")
    logits = torch.einsum("bqhd,bkhd->bhqk", q, torch.cat((k, extra), 1)) / 8 + bias[:, :, None]
    torch.testing.assert_close(lse, logits.logsumexp(-1))
    want = torch.einsum("bhqk,bkhd->bqhd", logits.softmax(-1), torch.cat((v, extra), 1))
    torch.testing.assert_close(out, want)
    out.sum().backward()
    assert all(part.grad is not None for part in (q, k, v))
    text = report()
    assert "our kernels are not used: torch sees no CUDA device" in text or "built without CUDA" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": torch.zeros(1, 4, 2, 64)}, "k is"),
        ({"q": torch.zeros(4, 2, 64)}, "q is"),
        ({"extra_k": torch.zeros(1, 4, 3, 64)}, "belong together"),
        ({"v": torch.zeros(1, 5, 3, 64)}, "differ in length"),
        ({"key_bias": torch.zeros(1, 3, 5)}, r"must be \(1, 1 or 3, 4\)"),
    ],
)
def test_bad_shapes_are_named(change: dict[str, torch.Tensor], message: str) -> None:
    inputs = {name: torch.zeros(1, 4, 3, 64) for name in "qkv"} | change
    q, k, v = (inputs.pop(name) for name in "qkv")
    with pytest.raises(ValueError, match=message):
        attention(q, k, v, **inputs)
