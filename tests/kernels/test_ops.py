"""The torch ops, from tensors through struct, launch and kernel (in the emulator) back to tensors; compile; backward.

How exact the kernels are on hard inputs is tests/kernels/csrc's business; here the arguments must arrive.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from instructx_core.cli import main
from instructx_core.kernels import (
    Session,
    attention,
    attention_lse,
    exact,
    int8,
    operands,
    reference,
    sdpa,
    select,
    selftest,
    trial,
)
from instructx_core.kernels import session as kernel_session
from instructx_core.kernels.errors import KernelError
from instructx_core.kernels.operands import Inputs, NormRope
from instructx_core.speed.attention import use_attention

BF16 = torch.bfloat16
pytestmark = pytest.mark.usefixtures("emulated")


def qkv(tokens: int = 70, dim: int = 64, dtype: torch.dtype = BF16, batch: int = 1, heads: int = 2, seed: int = 0):
    """Strided views of one packed tensor, as a fused projection gives them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, tokens, 3, heads, dim, generator=generator).to(dtype).unbind(2)


def close(got: Tensor, want: Tensor, limit: float) -> None:
    assert selftest.relative_error(got, want) <= limit


@pytest.mark.parametrize(("dim", "dtype"), [(64, BF16), (128, BF16), (64, torch.float16), (128, torch.float16)])
def test_exact(dim: int, dtype: torch.dtype) -> None:
    q, k, v = qkv(130, dim, dtype, batch=2)
    _, k2, v2 = qkv(67, dim, dtype, batch=2, seed=1)
    bias = torch.randn(2, 2, 197, generator=torch.Generator().manual_seed(3))
    bias[:, :, 5] = float("-inf")
    for extra in ({}, {"extra_k": k2, "extra_v": v2, "key_bias": bias}):
        out, lse = exact.attention(q, k, v, 0.11, **extra)
        renamed = {"key_bias": extra.get("key_bias"), "k2_BSHD": extra.get("extra_k"), "v2_BSHD": extra.get("extra_v")}
        want, want_lse = reference.attention(q, k, v, 0.11, **renamed)
        assert out.dtype == dtype and out.is_contiguous()
        close(out, want, 3e-3)
        torch.testing.assert_close(lse.double(), want_lse, rtol=0, atol=1e-5)


def test_bias_may_be_shared_between_heads_and_strided() -> None:
    q, k, v = qkv()
    bias = torch.randn(70, 1, 1).permute(2, 1, 0)
    close(exact.attention(q, k, v, 0.1, bias)[0], reference.attention(q, k, v, 0.1, bias)[0], 3e-3)


@pytest.mark.parametrize("dim", [64, 128])
def test_int8(dim: int) -> None:
    q, k, v = qkv(130, dim, batch=2)
    _, k2, v2 = qkv(67, dim, batch=2, seed=1)
    offset = 3.0 * torch.randn(dim, generator=torch.Generator().manual_seed(5)).to(BF16)
    k, k2 = k + offset, k2 + offset  # both segments come from one projection
    v2 = v2 * 4.0  # the larger values are in the second segment
    for extra in ({}, {"extra_k": k2, "extra_v": v2}):
        out, lse = int8.attention_quantizing(q, k, v, dim**-0.5, **extra)
        want, want_lse = reference.attention(q, k, v, dim**-0.5, None, extra.get("extra_k"), extra.get("extra_v"))
        close(out, want, 1.5e-2)
        torch.testing.assert_close(lse.double(), want_lse, rtol=0, atol=0.05)
        again, _ = int8.attention_quantizing(q, k, v, dim**-0.5, **extra)
        assert torch.equal(out, again)


def test_fused_norm_and_rope() -> None:
    q, k, v = qkv(130, 64, heads=3)
    generator = torch.Generator().manual_seed(7)
    norm_q, norm_k = (torch.rand(192, generator=generator).to(BF16) + 0.5 for _ in "qk")
    angle = torch.randn(130, 32, generator=generator).repeat_interleave(2, 1)
    cos, sin = angle.cos()[:, 0::2], angle.sin()[:, 1::2]  # diffusers' tables: every second of repeated pairs
    assert not cos.is_contiguous()
    out, _ = int8.quantized_attention(Inputs(q, k, v, 0.125), NormRope(norm_q, norm_k, cos, sin, 1e-6))
    finished = [
        reference.rope(reference.rms_norm(x.double(), w, 1e-6), cos, sin) for x, w in ((q, norm_q), (k, norm_k))
    ]
    close(out, reference.attention(*finished, v, 0.125)[0], 1.5e-2)


def test_statistics_and_prologue_against_their_definition() -> None:
    q, k, v = qkv(70, 64)
    shift, v_max, extra_shift = int8.kv_stats(k, v, extra_k=k[:, ::7] + 3, extra_v=v[:, ::7] * 4)
    torch.testing.assert_close(shift.double(), reference.k_shift(k.double(), 1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(extra_shift.double(), (k[:, ::7] + 3).double().mean(1), rtol=1e-5, atol=1e-6)
    both = torch.cat([v, v[:, ::7] * 4], 1)
    assert torch.equal(v_max.view(torch.float32), both.float().abs().amax((1, 3)))
    q8, k8, v16, q_scale, _k_scale, lse_shift, extra = int8.qkv_prologue(
        q, k, v, shift, v_max, 0.125, extra_k_shift=extra_shift
    )
    want = reference.prologue(q, k, v, 0.125, shift, v_max.view(torch.float32))
    assert (q8.int() - want.q8.int()).abs().max() <= 1 and (k8.int() - want.k8.int()).abs().max() <= 1
    assert torch.equal(v16, want.v16)
    torch.testing.assert_close(q_scale.double(), want.q_scale, rtol=1e-4, atol=0)
    torch.testing.assert_close(lse_shift.double(), want.lse_shift, rtol=1e-3, atol=1e-3)
    want_extra = torch.einsum("bshd,bhd->bhs", q.double(), extra_shift.double()) * 0.125
    torch.testing.assert_close(extra.double(), want_extra, rtol=1e-3, atol=1e-3)


def test_rows_that_kernels_cannot_read_are_copied() -> None:
    padded = torch.randn(1, 70, 2, 65, generator=torch.Generator().manual_seed(0)).to(BF16)
    q = padded[..., 1:]  # 130-byte rows, two bytes off
    transposed = torch.randn(1, 2, 64, 70).to(BF16).permute(0, 3, 1, 2)
    assert operands.align(q) is not q and operands.align(transposed) is not transposed
    packed = qkv()[1]
    assert operands.align(packed) is packed, "a packed qkv is read in place"
    single = q[:, :1, :1].clone()
    assert operands.align(single) is single
    close(
        exact.attention(q, transposed, transposed, 0.1)[0], reference.attention(q, transposed, transposed, 0.1)[0], 3e-3
    )


def test_unsupported_inputs_have_a_reason() -> None:
    for bad, reason in ((torch.float32, "float32"), (BF16, "head dim 32")):
        q, k, v = qkv(8, 32, bad)
        with pytest.raises(KernelError, match=reason):
            exact.attention(q, k, v, 1.0)
    q, k, v = qkv(8)
    with pytest.raises(KernelError, match="differ in dtype"):
        exact.attention(q, k.half(), v, 1.0)


# --- torch.library -------------------------------------------------------------------------------------------------

CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")


def test_opcheck() -> None:
    q, k, v = (part.contiguous() for part in qkv(9))
    _, k2, v2 = (part.contiguous() for part in qkv(5, seed=1))
    bias = torch.zeros(1, 1, 14)
    shift, v_max, shift2 = int8.kv_stats(k, v, extra_k=k2, extra_v=v2)
    q8, k8, v16, q_scale, k_scale, lse_shift, lse2 = int8.qkv_prologue(
        q, k, v, shift, v_max, 0.125, extra_k_shift=shift2
    )
    _, k8_2, v16_2, _, k_scale_2, *_ = int8.qkv_prologue(None, k2, v2, shift2, v_max, 0.125)
    cases: list[tuple[Any, tuple]] = [
        (exact.attention, (q, k, v, 0.125, bias, k2, v2)),
        (int8.attention_quantizing, (q, k, v, 0.125, None, k2, v2)),
        (int8.kv_stats, (k, v)),
        (int8.kv_stats, (k, v, None, None, None, 1e-6, k2, v2)),
        (int8.qkv_prologue, (q, k, v, shift, v_max, 0.125)),
        (int8.qkv_prologue, (None, k, v, shift, v_max, 0.125)),
        (int8.qkv_prologue, (q, k, v, shift, v_max, 0.125, None, None, None, None, 1e-6, shift2)),
        (int8.attention_int8, (q8, k8, v16, q_scale, k_scale, v_max, 0.125, True, lse_shift)),
        (
            int8.attention_int8,
            (q8, k8, v16, q_scale, k_scale, v_max, 0.125, True, lse_shift, k8_2, v16_2, k_scale_2, lse2),
        ),
    ]
    for op, arguments in cases:
        found = torch.library.opcheck(op, arguments, test_utils=CHECKS)
        assert set(found.values()) == {"SUCCESS"}, (op, found)


def test_opcheck_of_the_op_that_chooses(good_card) -> None:
    from instructx_core.kernels.session import attention_auto

    q, k, v = (part.contiguous() for part in qkv(9))
    for mode in ("int8", "off"):
        found = torch.library.opcheck(attention_auto, (q, k, v, 0.125, None, None, None, mode), test_utils=CHECKS)
        assert set(found.values()) == {"SUCCESS"}, found


@pytest.mark.parametrize(
    ("mode", "backend"),
    [(mode, "aot_eager") for mode in ("int8", "exact", "off")]
    # int8 runs on the card, the others on the host's attention, by one graph
    + [pytest.param(mode, "inductor", marks=pytest.mark.slow) for mode in ("int8", "off")],
)
def test_compiles_without_a_graph_break(good_card, mode: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_session, "_by_mode", {})  # as in a process where nothing ran before
    q, k, v = qkv(33)
    session = Session(mode)

    def layer(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        first = attention(q * 2, k, v, mode=mode)
        return first + session.attend(Inputs.of(q, k, v)), attention_lse(q, k, v, mode=mode)[1]

    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=backend)
    for got, want in zip(compiled(q, k, v), layer(q, k, v), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-2, atol=1e-2)
    longer = qkv(40)
    assert compiled(*longer)[0].shape == (1, 40, 2, 64)
    ran = {route.path for route in session.calls()}
    assert ran == {"int8"} if mode == "int8" else ran == {"host"}


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_are_those_of_exact_attention(good_card, compiled: bool) -> None:
    inputs = [part.clone().requires_grad_(True) for part in (*qkv(9), *qkv(5, seed=1)[1:])]

    def loss(q: Tensor, k: Tensor, v: Tensor, k2: Tensor, v2: Tensor) -> Tensor:
        out, lse = attention_lse(q, k, v, extra_k=k2, extra_v=v2, mode="int8")
        return (out * 1.5).float().square().sum() + lse.sum()

    torch._dynamo.reset()
    run = torch.compile(loss, fullgraph=True, backend="aot_eager") if compiled else loss
    got = torch.autograd.grad(run(*inputs), inputs)
    out, lse = sdpa.attention_lse(*inputs[:3], 0.125, None, *inputs[3:])
    want = torch.autograd.grad((out * 1.5).float().square().sum() + lse.sum(), inputs)
    for mine, theirs in zip(got, want, strict=True):
        close(mine, theirs, 0.05)


# --- from the model to the kernel ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_self_test_passes_and_the_card_is_used(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judgement's own child with few cases, the command with all of them; of 5000 tokens few are queries here."""
    real = trial.run_trials
    monkeypatch.setattr(
        trial, "run_trials", lambda device: real(device, cases=("random/64", "wan/128", "segments/64/fp16"))
    )
    long = [replace(case, tokens=700) if case.tokens > 700 else case for case in selftest.CASES]
    monkeypatch.setattr(selftest, "CASES", tuple(long))
    monkeypatch.setattr(selftest.attention_errors, "__defaults__", (tuple(long),))
    found = select.verdict(torch.device("cpu"))
    assert not found.problems and found.errors["exact"] < 4e-3 and found.errors["int8"] < 1.8e-2
    assert main(["kernels", "selftest"]) == 0
    told = capsys.readouterr().out
    assert told.endswith("passed\n") and all(case.name in told for case in selftest.CASES)
    assert main(["kernels", "report"]) == 0
    assert "int8: self-test passed, error " in capsys.readouterr().out


@torch.no_grad()
def test_wan_on_the_kernels(good_card, load_helper: Any) -> None:
    case = load_helper("instructx_test_processor", "kernels/test_processor.py")
    stock, ours = case.run(case.wan(BF16)), case.wan(BF16)
    session = use_attention(ours, "int8")
    out = case.run(ours)
    assert {route.path: count for route, count in session.calls().items()} == {"int8": 2}
    close(out, stock, 0.03)
    assert torch.equal(case.run(ours), out), "bitwise repeatable"
