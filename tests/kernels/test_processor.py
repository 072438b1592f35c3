"""The diffusers processor and the pipeline's hook: stock results on exact paths, right arguments to the fused one."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import Tensor

from instructx_core.errors import InputError
from instructx_core.kernels import int8, sdpa
from instructx_core.kernels.operands import Inputs, NormRope
from instructx_core.kernels.select import Route
from instructx_core.sampling import guidance
from instructx_core.sampling.guidance import Conditions, Guidance
from instructx_core.sampling.schedule import Level
from instructx_core.speed.attention import InstructXAttnProcessor, session_of, use_attention


def wan(dtype: torch.dtype = torch.float32, seed: int = 0) -> WanTransformer3DModel:
    torch.manual_seed(seed)
    model = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=64,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=32,
        ffn_dim=64,
        num_layers=2,
    )
    for name, parameter in model.named_parameters():
        if "norm_q" in name or "norm_k" in name:
            torch.nn.init.uniform_(parameter, 0.5, 2.0)
    model = model.to(dtype).eval().requires_grad_(False)
    model.rope.float()  # from_pretrained keeps the tables in float32
    return model


def run(model: WanTransformer3DModel) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    noisy = torch.randn(2, 4, 3, 8, 6, generator=generator).to(model.dtype)
    text = torch.randn(2, 7, 16, generator=generator).to(model.dtype)
    return model(noisy, torch.tensor([500.0, 20.0]), text, return_dict=False)[0]


@pytest.mark.parametrize("mode", ["auto", "exact", "int8", "off"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equals_the_stock_processor_where_no_kernel_runs(mode: str, dtype: torch.dtype) -> None:
    stock, ours = run(wan(dtype)), wan(dtype)
    session = use_attention(ours, mode)
    assert torch.equal(run(ours), stock)
    assert sum(session.calls().values()) == (0 if mode == "off" else 2), "one self-attention a layer"
    ours.fuse_qkv_projections()
    if mode != "off":
        assert isinstance(ours.blocks[0].attn1.processor, InstructXAttnProcessor)
    torch.testing.assert_close(run(ours), stock, rtol=1e-2, atol=1e-2 if dtype == torch.bfloat16 else 1e-5)


def test_our_denoiser(random_pipe: Any) -> None:
    model = random_pipe.transformer
    session = random_pipe.use_attention("exact")
    assert session_of(model) is session and session.name == "tiny"
    random_pipe.use_attention("off")
    assert session_of(model) is None and type(model.blocks[0].attn1.processor) is WanAttnProcessor


def test_cross_attention_and_foreign_processors_stay() -> None:
    model = wan()

    class Foreign(WanAttnProcessor):
        pass

    foreign = Foreign()
    model.blocks[1].attn1.set_processor(foreign)
    use_attention(model)
    assert type(model.blocks[0].attn2.processor) is WanAttnProcessor
    assert model.blocks[1].attn1.processor is foreign
    assert isinstance(model.blocks[0].attn1.processor, InstructXAttnProcessor)


def test_the_users_backend_is_kept() -> None:
    model = wan()
    model.set_attention_backend("_native_math")
    session = use_attention(model, "exact")
    assert "_native_math" in session.host_name
    assert model.blocks[0].attn1.processor._attention_backend is not None
    model.set_attention_backend("native")
    assert str(model.blocks[0].attn1.processor._attention_backend.value) == "native"


def test_bad_mode_and_model() -> None:
    with pytest.raises(InputError, match="attention 'fast' is unknown"):
        use_attention(wan(), "fast")
    with pytest.raises(InputError, match="Linear has no Wan blocks"):
        use_attention(torch.nn.Linear(1, 1))


def in_float(inputs: Inputs, pending: NormRope) -> tuple[Tensor, Tensor]:
    """What the fused kernels compute, from the arguments that they are given."""
    q, k, v, scale = inputs[:4]
    norm_q, norm_k, cos, sin, eps = pending

    def finish(x: Tensor, weight: Tensor) -> Tensor:
        wide = x.float().flatten(2)
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight.float()
        even, odd = wide.view(x.shape).unflatten(-1, (-1, 2)).unbind(-1)
        c, s = cos[:, None], sin[:, None]
        return torch.stack((even * c - odd * s, even * s + odd * c), -1).flatten(-2)

    q, k = finish(q, norm_q), finish(k, norm_k)
    out = torch.nn.functional.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.float().transpose(1, 2), scale=scale
    )
    return out.transpose(1, 2).to(v.dtype), torch.empty(0)


@torch.no_grad()  # fuse_qkv_projections makes trainable weights, and what trains is not fused
@pytest.mark.usefixtures("on_stand_in", "good_card")
def test_the_fused_path_gets_projections_weights_and_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "quantized_attention", in_float)
    stock, ours = run(wan(torch.bfloat16)), wan(torch.bfloat16)
    session = use_attention(ours, "int8")
    torch.testing.assert_close(run(ours), stock, rtol=3e-2, atol=3e-2)
    assert session.calls() == {Route("int8", "int8 asked for, self-test passed"): 2}
    ours.fuse_qkv_projections()
    torch.testing.assert_close(run(ours), stock, rtol=3e-2, atol=3e-2)


@pytest.mark.usefixtures("on_stand_in", "good_card")
def test_offloaded_or_trained_norms_are_called_as_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "quantized_attention", lambda *args: pytest.fail("fused"))
    seen = []

    def unfused(q, k, v, scale, key_bias=None, extra_k=None, extra_v=None):
        seen.append(q)
        return sdpa.attention_lse(q, k, v, scale)

    monkeypatch.setattr(int8, "attention_quantizing", unfused)
    model = wan(torch.bfloat16)
    stock = run(model)
    use_attention(model, "int8")
    for parameter in model.blocks[0].attn1.parameters():
        parameter.requires_grad_(True)
    model.blocks[1].attn1.norm_q = torch.nn.Sequential(model.blocks[1].attn1.norm_q)  # e.g. an offload wrapper
    assert torch.equal(run(model), stock) and len(seen) == 2


def test_a_step_that_is_not_finite_is_repeated_exactly(
    random_pipe: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pipe = random_pipe
    session = pipe.use_attention("int8")
    try:
        latents = torch.zeros(1, pipe.transformer.config.in_channels, 1, 4, 4)
        calls = []

        def ask(step: int) -> Tensor:
            level = Level(step, 6, torch.tensor(500.0), torch.tensor(0.5), 0.0, True)
            return guidance.predict(pipe.transformer, latents, level, Conditions(latents), Guidance())

        def velocity(_model: Any, latents: Tensor, *rest: Any) -> Tensor:
            calls.append(session.demoted)
            session.count(Route("int8", "test"), torch.device("cpu"))
            return latents + (0.0 if session.demoted else float("nan"))

        monkeypatch.setattr(guidance, "guided_velocity", velocity)
        with caplog.at_level(logging.WARNING, "instructx"):
            for step in (3, 4):
                assert torch.isfinite(ask(step)).all()
        reason = "output not finite with int8 attention at step 3"
        assert calls == [None, reason, reason]
        assert [r.message for r in caplog.records] == [f"attention of tiny: {reason}; the step is repeated exactly"]
        monkeypatch.setattr(guidance, "guided_velocity", lambda _model, latents, *rest: latents * float("nan"))
        with pytest.raises(FloatingPointError, match="not finite at step 5"):
            ask(5)
    finally:
        pipe.use_attention("off")
