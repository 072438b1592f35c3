"""The four designs of the study: one protocol, counted parameters, gradients, saved and loaded to the bit."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch
from tiny import clip, pipeline, randomise, small_config, tokenizer
from torch import Tensor

from instructx_core.config import DESIGNS, Design, DesignConfig, InstructXConfig, paper_14b, tiny, with_design
from instructx_core.encoder.context_encoder import ContextEncoder
from instructx_core.encoder.designs import ENCODERS, build_encoder
from instructx_core.encoder.qwen import build_mllm
from instructx_core.errors import InputError
from instructx_core.formats.telling.identify import identify
from instructx_core.formats.telling.verify import verify
from instructx_core.weights import load_pipeline, save_checkpoint

KINDS = tuple(DESIGNS)
TEXTS = ["make the circle blue", "remove it"]


def small(kind: Design) -> InstructXConfig:
    return with_design(small_config(source_embedder="own"), kind)


def encoder_of(config: InstructXConfig, seed: int = 0) -> ContextEncoder:
    torch.manual_seed(seed)
    encoder = build_encoder(config)
    encoder.add_lora(config.lora)
    randomise(encoder)
    return encoder


def encoded(encoder: ContextEncoder, frames: list[Tensor], texts: list[str] = TEXTS) -> tuple[Tensor, Tensor]:
    return encoder.encode(tokenizer(), frames, texts)


def test_every_design_has_an_encoder() -> None:
    assert set(ENCODERS) == set(DESIGNS)


@pytest.mark.parametrize("kind", KINDS)
def test_one_protocol(kind: Design) -> None:
    """Shapes, a mask that says which rows mean something, and an edit of a batch is what it is alone."""
    config = small(kind)
    encoder = encoder_of(config)
    frames = [clip(1), clip(1, seed=1)]
    context_BLD, mask_BL = encoded(encoder, frames)
    assert context_BLD.shape == (2, config.context_length("image"), config.denoiser.context_dim)
    assert mask_BL.shape == context_BLD.shape[:2] and mask_BL.dtype == torch.bool
    assert not context_BLD[~mask_BL].any()
    alone_BLD, _ = encoded(encoder, frames[1:], TEXTS[1:])
    torch.testing.assert_close(context_BLD[1:], alone_BLD, atol=2e-5, rtol=1e-4)
    assert bool((~mask_BL).any()) == (kind == "t5")


@pytest.mark.parametrize("kind", KINDS)
def test_who_looks_at_the_source(kind: Design) -> None:
    encoder = encoder_of(small(kind))
    first, _ = encoded(encoder, [clip(1)], TEXTS[:1])
    second, _ = encoded(encoder, [clip(1, seed=5)], TEXTS[:1])
    other_text, _ = encoded(encoder, [clip(1)], ["make the circle red"])
    assert torch.equal(first, second) == (kind == "t5") == (not encoder.sees_pictures)
    assert not torch.equal(first, other_text)


def loss_of(encoder: ContextEncoder, frames: Tensor) -> Tensor:
    inputs = encoder.prepare(tokenizer(), TEXTS, [frames, frames])
    target = torch.randn(1, generator=torch.Generator().manual_seed(7))
    return (encoder(inputs).double() - target).pow(2).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: Design) -> None:
    """Every part of the context has one, and it is the slope that a small step along it finds."""
    encoder = encoder_of(small(kind), seed=3)
    parts = dict(encoder.named_parameters())
    own = ("connector.", "queries.image") if kind != "t5" else ("text_encoder.",)
    trained = {name: p for name, p in parts.items() if name.startswith(own) or ".lora_" in name}
    assert any(".lora_" in name for name in trained) == (kind == "queries")
    encoder.requires_grad_(False)
    for parameter in trained.values():
        parameter.requires_grad_(True)
    before = loss_of(encoder, clip(1))
    before.backward()
    gradients = {name: p.grad for name, p in trained.items()}
    assert all(g is not None and bool(g.isfinite().all()) for g in gradients.values())
    squared = sum(float(g.double().pow(2).sum()) for g in gradients.values() if g is not None)
    assert squared > 0
    step = 1e-3 / squared**0.5
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter -= step * gradients[name]  # type: ignore[operator]
        slope = float(before - loss_of(encoder, clip(1))) / step
    assert slope == pytest.approx(squared, rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_to_the_bit(kind: Design, tmp_path: Any) -> None:
    """What inspect says of it, what verify finds, and the same edit with guidance from what was loaded."""

    def edit(pipe: Any) -> Tensor:
        noise = torch.Generator().manual_seed(3)
        return pipe(clip(), TEXTS[0], generator=noise, output_type="latent", guidance_scale=2.0).frames

    pipe = pipeline(small(kind))
    save_checkpoint(tmp_path / "model", pipe, dtype=torch.float32)
    loaded = load_pipeline(tmp_path / "model")
    loaded.set_progress_bar_config(disable=True)
    assert type(loaded.encoder) is ENCODERS[kind] and loaded.instructx_config.design.kind == kind
    assert torch.equal(edit(pipe), edit(loaded))
    found = identify(next((tmp_path / "model" / "model_patches").iterdir()))
    assert found.kind == "adapter" and (f"design {kind}" in found.title) == (kind != "queries")
    assert verify(tmp_path / "model").good


@pytest.mark.slow
def test_parameters_at_paper_size() -> None:
    """The paper's 1.6B connector is MetaQuery's; umT5-XXL is the public encoder's 5.68B."""

    def count(module: Any) -> int:
        return sum(p.numel() for p in module.parameters())

    with torch.device("meta"):
        encoders = {kind: build_encoder(with_design(paper_14b(), kind)) for kind in KINDS}
    layers: Any = encoders["metaquery"].connector
    linears = sum(p.numel() for p in layers.layers.parameters() if p.ndim == 2)
    assert linears == 24 * (4 * 2048**2 + 3 * 2048 * 8192) == 1_610_612_736
    assert count(layers) == 1_647_431_680
    assert count(encoders["t5"]) == 5_680_910_336
    assert count(encoders["qformer"].connector) == 115_169_792
    assert count(encoders["queries"].connector) == 36_710_400
    assert {kind: encoder.mllm is None for kind, encoder in encoders.items()} == {kind: kind == "t5" for kind in KINDS}


def test_the_usual_design_is_not_written() -> None:
    """Files of InstructX say what they said before there were designs; others can be read back."""
    assert "design" not in json.loads(tiny().to_json())
    for kind in KINDS:
        config = with_design(tiny(), kind)
        assert InstructXConfig.from_json(config.to_json()) == config


def test_a_seed_gives_the_weights_that_it_always_gave() -> None:
    """MLLM, queries, then the connector's layers from the first to the last: as before there were designs."""
    config = small_config()
    width, context = config.mllm.hidden_size, config.denoiser.context_dim
    torch.manual_seed(5)
    build_mllm(config.mllm)
    queries = [torch.randn(count, width) * 0.02 for count in (4, 8)]
    layers = [torch.nn.Linear(width, context), torch.nn.Linear(context, context)]
    torch.manual_seed(5)
    encoder = build_encoder(config)
    connector: Any = encoder.connector
    assert torch.equal(encoder.queries["image"], queries[0]) and torch.equal(encoder.queries["video"], queries[1])
    assert torch.equal(connector[0].weight, layers[0].weight) and torch.equal(connector[2].weight, layers[1].weight)


def test_shared_queries_are_one_set() -> None:
    config = small_config()
    rule = dataclasses.replace(config.instruction, num_video_queries=config.instruction.num_image_queries)
    shared = dataclasses.replace(config, instruction=rule, design=DesignConfig(shared_queries=True))
    encoder = encoder_of(shared)
    assert list(encoder.queries) == ["image"]
    with torch.no_grad():
        before, _ = encoder.encode(tokenizer(), [clip(5)], TEXTS[:1])
        encoder.queries["image"].add_(1.0)
        after, _ = encoder.encode(tokenizer(), [clip(5)], TEXTS[:1])
    assert not torch.equal(before, after)
    with pytest.raises(ValueError, match="shared queries of 4 for images and 8"):
        dataclasses.replace(config, design=DesignConfig(shared_queries=True))


def test_long_text_is_refused_by_t5() -> None:
    encoder = encoder_of(small("t5"))
    with pytest.raises(InputError, match=r"a text has \d+ tokens, at most 48"):
        encoder.encode(tokenizer(), [clip(1)], ["a very long instruction " * 20])
