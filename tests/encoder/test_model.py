"""The encoder as a whole: padding changes nothing, vision equals transformers, LoRA, saving, gradients, errors."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor

from instructx_core.config import InstructXConfig, LoraConfig, paper_14b, tiny
from instructx_core.connector import Connector
from instructx_core.encoder.designs import build_encoder
from instructx_core.encoder.inputs import EncoderInputs, drop_instruction, inputs_of_pictures, prepare_inputs
from instructx_core.encoder.model import InstructXEncoder
from instructx_core.encoder.pictures import patched_pictures, pictures_of_grids
from instructx_core.encoder.tokenizer import token_id, train_tokenizer
from instructx_core.encoder.vision import patchify, prepare_pictures, vision_forward
from instructx_core.errors import InputError
from instructx_core.geometry import mllm_grid

TEXTS = ["make it blue", "remove the big red circle at the left <|im_end|>", "invert"]


def make_config(**rule: Any) -> InstructXConfig:
    base = tiny()
    mllm = dataclasses.replace(
        base.mllm,
        vocab_size=320,
        num_layers=2,
        hidden_size=64,
        num_heads=2,
        num_kv_heads=1,
        vision=dataclasses.replace(base.mllm.vision, depth=2, hidden_size=48, num_heads=2, full_attention_blocks=(1,)),
    )
    instruction = dataclasses.replace(base.instruction, num_image_queries=3, num_video_queries=5, **rule)
    return dataclasses.replace(base, mllm=mllm, instruction=instruction, lora=LoraConfig(rank=4, alpha=8))


KIWI_RULES = {
    "num_reference_queries": 4,
    "query_slice": "tail",
    "frame_rule": "cap",
    "video_size_factor": 2,
    "temporal_position_step": "fixed",
    "reference_in_context": True,
    "max_pixels": 4 * 3136,
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, 300)


def build(config: InstructXConfig) -> InstructXEncoder:
    torch.manual_seed(0)
    return build_encoder(config).eval()


@pytest.fixture(scope="module", params=["instructx", "kiwi"])
def encoder(request: pytest.FixtureRequest) -> InstructXEncoder:
    return build(make_config(**(KIWI_RULES if request.param == "kiwi" else {})))


def noise(*shape: int) -> Tensor:
    return torch.randint(0, 256, (*shape, 3), dtype=torch.uint8)


def batch_of(frames: int, references: int) -> tuple[list[Tensor], list[list[Tensor]] | None]:
    torch.manual_seed(1)
    clips = [noise(frames, 64, 80) for _ in TEXTS]
    # two references of different shapes: grids differ between slots, never between samples
    pictures = [[noise(56, 56 + 56 * slot) for slot in range(references)] for _ in TEXTS]
    return clips, pictures if references else None


@pytest.mark.parametrize(("frames", "references"), [(1, 0), (6, 0), (6, 1), (1, 2)])
def test_batch_equals_single_samples(
    encoder: InstructXEncoder, tokenizer: Tokenizer, frames: int, references: int
) -> None:
    """Pads lie inside the sequence; each sample must come out as if it were alone, also with a longer fixed text."""
    config = encoder.instructx
    clips, pictures = batch_of(frames, references)
    inputs = prepare_inputs(tokenizer, config, TEXTS, clips, pictures, 8.0)
    longer = inputs_of_pictures(
        tokenizer, config, TEXTS, patched_pictures(config, clips, pictures, 8.0), text_length=200
    )
    assert inputs.padded and not inputs.attention_mask_BL.all()
    with torch.no_grad():
        context_BLD = encoder(inputs)
        torch.testing.assert_close(encoder(longer), context_BLD, atol=1e-5, rtol=0)
        for i, text in enumerate(TEXTS):
            alone = prepare_inputs(tokenizer, config, [text], [clips[i]], pictures and [pictures[i]], 8.0)
            assert not alone.padded
            kept = inputs.attention_mask_BL[i]
            assert torch.equal(inputs.input_ids_BL[i][kept], alone.input_ids_BL[0])
            assert torch.equal(inputs.position_ids_3BL[:, i][:, kept], alone.position_ids_3BL[:, 0])
            torch.testing.assert_close(context_BLD[i : i + 1], encoder(alone), atol=1e-5, rtol=0)
    reference_tokens = 0
    if references and encoder.reference_connector is not None:
        reference_tokens = sum(t * h * w // 4 for t, h, w in inputs.reference_grid or ())
    assert context_BLD.shape == (3, inputs.query_count + reference_tokens, config.denoiser.dim)


@pytest.mark.parametrize("slot", [0, 1])
def test_the_mllm_sees_every_reference(encoder: InstructXEncoder, tokenizer: Tokenizer, slot: int) -> None:
    clips, pictures = batch_of(1, 2)
    assert pictures is not None
    with torch.no_grad():
        before = encoder(prepare_inputs(tokenizer, encoder.instructx, TEXTS, clips, pictures))
        for sample in pictures:
            sample[slot] = 255 - sample[slot]
        after = encoder(prepare_inputs(tokenizer, encoder.instructx, TEXTS, clips, pictures))
    queries = slice(-4, None)  # the last of the context, whatever a reference connector puts before them
    assert (before - after)[:, queries].abs().amax(dim=(1, 2)).min() > 1e-4


@pytest.mark.parametrize("references", [0, 1])
def test_precomputed_vision(encoder: InstructXEncoder, tokenizer: Tokenizer, references: int) -> None:
    """Training caches vision features and gives only grids."""
    config = encoder.instructx
    clips, pictures = batch_of(6, references)
    inputs = prepare_inputs(tokenizer, config, TEXTS, clips, pictures, 8.0)
    grid = mllm_grid(6, 64, 80, config, "video")
    reference_grids = (mllm_grid(1, 56, 56, config, "reference"),) * references
    pictures = pictures_of_grids(config, 6, grid, reference_grids, 8.0)
    bare = inputs_of_pictures(tokenizer, config, TEXTS, pictures)
    assert bare.grid == inputs.grid and bare.reference_grid == inputs.reference_grid and bare.patches_BSP is None
    with torch.no_grad():
        vision = encoder.encode_vision(inputs.patches_BSP, grid)
        other = encoder.encode_vision(inputs.reference_patches_BSP, *reference_grids) if references else None
        assert torch.equal(encoder(bare, vision, other), encoder(inputs))
    with pytest.raises(InputError, match="no patches"):
        encoder(bare)
    if references:
        with pytest.raises(InputError, match="no reference patches"):
            encoder(bare, vision)


def test_exact_and_tail_slices(tokenizer: Tokenizer) -> None:
    """tail: the last Q tokens, which are queries[2:], <|im_end|> and the newline."""
    config = make_config()
    encoder = build(config)
    inputs = prepare_inputs(tokenizer, config, TEXTS[:1], [noise(1, 56, 56)])
    hidden_BLD = encoder.encode_hidden(inputs)
    ids = inputs.input_ids_BL[0]
    at = (ids == token_id(tokenizer, "<|object_ref_start|>")).nonzero().flatten()
    assert torch.equal(encoder.encode_features(inputs)[0], hidden_BLD[:, at]) and len(at) == 3
    tail = build(make_config(query_slice="tail"))
    assert torch.equal(tail.encode_features(inputs)[0], hidden_BLD[:, -3:])
    assert at[-1] == len(ids) - 3


@pytest.mark.compat
@pytest.mark.parametrize("grid", [(1, 2, 2), (7, 4, 4), (2, 8, 8), (3, 10, 14), (1, 18, 22), (2, 6, 16)])
def test_vision_equals_transformers(grid: tuple[int, int, int]) -> None:
    """Whole windows, ragged borders on one or both sides, a slice smaller than a window; two samples at once."""
    encoder = build(make_config())
    visual: Any = encoder.mllm.visual
    patches_BSP = torch.randn(2, grid[0] * grid[1] * grid[2], 1176)
    with torch.no_grad():
        ours = vision_forward(visual, patches_BSP, grid, encoder.instructx.mllm.vision)
        for sample, patches_SP in zip(ours, patches_BSP, strict=True):
            theirs = visual(patches_SP, grid_thw=torch.tensor([grid]))
            theirs = getattr(theirs, "pooler_output", theirs)  # a plain tensor before 5.0
            torch.testing.assert_close(sample, theirs, atol=1e-5, rtol=0)
    with pytest.raises(InputError, match="patches for grid"):
        vision_forward(visual, patches_BSP[:, 1:], grid, encoder.instructx.mllm.vision)


@pytest.mark.compat
def test_image_equals_transformers_forward(tokenizer: Tokenizer) -> None:
    """One image: transformers' own positions are right, so its whole forward must agree (queries = that token)."""
    config = make_config()
    encoder = build(config)
    inputs = prepare_inputs(tokenizer, config, TEXTS[:1], [noise(1, 64, 80)])
    model = encoder.mllm
    query_id = token_id(tokenizer, "<|object_ref_start|>")
    with torch.no_grad():
        encoder.queries["image"].copy_(model.get_input_embeddings().weight[query_id].expand(3, -1))
    names = {"image_token_id": "image_pad", "video_token_id": "video_pad", "vision_start_token_id": "vision_start"}
    for field, name in names.items():
        setattr(model.config, field, token_id(tokenizer, f"<|{name}|>"))
    ids = inputs.input_ids_BL
    more: dict[str, Any] = {}
    if "mm_token_type_ids" in inspect.signature(model.forward).parameters:
        more["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
    assert inputs.patches_BSP is not None
    with torch.no_grad():
        theirs = model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=inputs.patches_BSP[0],
            image_grid_thw=torch.tensor([inputs.grid]),
            **more,
        ).last_hidden_state
        torch.testing.assert_close(encoder.encode_hidden(inputs), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scope", ["mllm", "language_model"])
def test_lora(tokenizer: Tokenizer, tmp_path: Path, scope: Any) -> None:
    """Zero at the start, trained after; merging and saving (before and after) keep the output."""
    config = dataclasses.replace(make_config(), lora=LoraConfig(rank=4, alpha=8, scope=scope))
    encoder = build(config)
    clips, _ = batch_of(6, 0)
    inputs = prepare_inputs(tokenizer, config, TEXTS, clips)
    with torch.no_grad():
        before = encoder(inputs)
        encoder.add_lora(config.lora)
        assert torch.equal(encoder(inputs), before)
        lora = encoder.lora_state_dict()
        assert "mllm.language_model.layers.0.self_attn.q_proj.lora_A.weight" in lora
        # 7 linears in a layer; gate, up, down in a vision block (its attention is one fused qkv)
        assert len(lora) == 2 * (2 * 7 + (2 * 3 if scope == "mllm" else 0))
        for name, value in lora.items():
            if "lora_B" in name:
                value.normal_(std=0.05)
        trained = encoder(inputs)
        assert (trained - before).abs().max() > 1e-3
        encoder.save_pretrained(tmp_path / "apart")
        assert torch.equal(InstructXEncoder.from_pretrained(tmp_path / "apart")(inputs), trained)
        encoder.merge_lora()
        assert not encoder.lora_state_dict()
        torch.testing.assert_close(encoder(inputs), trained, atol=1e-5, rtol=0)
        encoder.save_pretrained(tmp_path / "merged")
        back = InstructXEncoder.from_pretrained(tmp_path / "merged")
    assert back.instructx == config and set(back.state_dict()) == set(build(config).state_dict())
    torch.testing.assert_close(back(inputs), trained, atol=1e-5, rtol=0)


def test_paper_sizes() -> None:
    """3.7546 B in the MLLM; seven names over the whole of it give 2,322,048 a rank: 594.4 M at 256, the "0.6B"."""
    config = paper_14b()
    with torch.device("meta"):
        encoder = build_encoder(config)
        assert sum(p.numel() for p in encoder.mllm.parameters()) == 3_754_622_976
        assert sum(p.numel() for p in encoder.connector.parameters()) == (2048 + 1) * 5120 + (5120 + 1) * 5120
        encoder.add_lora(config.lora)
    assert sum(p.numel() for p in encoder.lora_state_dict().values()) == 256 * 2_322_048
    assert {name: tuple(q.shape) for name, q in encoder.queries.items()} == {"image": (256, 2048), "video": (512, 2048)}


def test_gradients_and_checkpointing(tokenizer: Tokenizer) -> None:
    """Queries, connector and LoRA of both halves learn; recomputing activations gives the same gradients."""
    config = make_config()
    encoder = build(config)
    encoder.add_lora(config.lora)
    for name, value in encoder.lora_state_dict().items():
        if "lora_B" in name:
            value.normal_(std=0.05)
    clips, _ = batch_of(6, 0)
    inputs = prepare_inputs(tokenizer, config, TEXTS, clips)
    gradients = []
    for recompute in (False, True):
        encoder.train()
        if recompute:
            encoder.enable_gradient_checkpointing()
        encoder.zero_grad()
        encoder(inputs).square().sum().backward()
        gradients.append({n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None})
    names = set(gradients[0])
    assert {"queries.video", "connector.0.weight", "connector.2.bias"} <= names
    assert {n for n, _ in encoder.named_parameters() if ".lora_" in n} <= names
    assert "queries.image" not in names and not any("base_layer" in n for n in names)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-4, rtol=1e-4)
    encoder.disable_gradient_checkpointing()
    assert not encoder.is_gradient_checkpointing


def test_unconditional_branch(encoder: InstructXEncoder, tokenizer: Tokenizer) -> None:
    config = encoder.instructx
    clips, pictures = batch_of(6, 1)
    inputs = prepare_inputs(tokenizer, config, TEXTS, clips, pictures, 8.0)
    dropped = drop_instruction(tokenizer, config, inputs)
    same = prepare_inputs(tokenizer, config, [""] * 3, clips, pictures, 8.0, allow_empty=True)
    for field in dataclasses.fields(EncoderInputs):
        ours, theirs = getattr(dropped, field.name), getattr(same, field.name)
        assert torch.equal(ours, theirs) if isinstance(ours, Tensor) else ours == theirs, field.name
    mixed = prepare_inputs(tokenizer, config, [TEXTS[0], "", TEXTS[2]], clips, pictures, 8.0, allow_empty=True)
    with torch.no_grad():
        torch.testing.assert_close(encoder(mixed)[1], encoder(same)[1], atol=1e-5, rtol=0)


@pytest.mark.compat
def test_rotary_stays_fp32(tokenizer: Tokenizer) -> None:
    """Casting the encoder, or building it on meta, must not touch the frequencies of the positions."""
    config = make_config()
    encoder = build(config)
    rotary: Any = encoder.mllm.language_model.rotary_emb
    want = rotary.inv_freq.clone()
    inputs = prepare_inputs(tokenizer, config, TEXTS[:1], [noise(1, 56, 56)])
    for change in (lambda: encoder.to(torch.bfloat16), lambda: setattr(rotary, "inv_freq", want.to("meta"))):
        change()
        with torch.no_grad():
            assert encoder(inputs).dtype == torch.bfloat16
        torch.testing.assert_close(rotary.inv_freq, want, atol=0, rtol=1e-6)


def test_odd_clips_repeat_the_last_frame() -> None:
    config = tiny()
    frames = noise(3, 56, 56)
    patches_SP, grid = patchify(frames, config.mllm.vision)
    longer, _ = patchify(torch.cat([frames, frames[-1:]]), config.mllm.vision)
    assert grid == (2, 4, 4) and torch.equal(patches_SP, longer)
    assert prepare_pictures(noise(17, 64, 64), config, "video")[1] == mllm_grid(17, 64, 64, config, "video")
    with pytest.raises(InputError, match="multiples of 28"):
        patchify(noise(1, 56, 57), config.mllm.vision)


def test_connector() -> None:
    assert set(Connector(4, 8).state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert Connector(4, 8)(torch.randn(2, 3, 4)).abs().max() > 0
    assert Connector(4, 8, zero_init=True)(torch.randn(2, 3, 4)).abs().max() == 0


def test_to_moves_and_casts_only_patches(tokenizer: Tokenizer) -> None:
    inputs = prepare_inputs(tokenizer, make_config(), TEXTS[:1], [noise(1, 56, 56)]).to("cpu", torch.bfloat16)
    assert inputs.patches_BSP is not None and inputs.patches_BSP.dtype == torch.bfloat16
    assert inputs.input_ids_BL.dtype == torch.long and inputs.attention_mask_BL.dtype == torch.bool


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instructions": []}, "non-empty list"),
        ({"instructions": "make it blue"}, "non-empty list"),
        ({"instructions": ["a", "b"]}, "1 clips"),
        ({"instructions": [" "]}, "empty"),
        ({"frames": [torch.zeros(1, 56, 56, 3)]}, "torch.float32"),
        ({"frames": [torch.zeros(1, 3, 56, 56, dtype=torch.uint8)]}, "give uint8 of shape"),
        ({"references": []}, "0 reference lists"),
        ({"references": [[]]}, "at least 1"),
        ({"references": [[torch.zeros(2, 56, 56, 4, dtype=torch.uint8)]]}, "reference is torch.uint8"),
        ({"frames": [noise(2, 56, 56)], "fps": 0.0}, "fps is 0"),
    ],
)
def test_errors(tokenizer: Tokenizer, change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"instructions": ["make it blue"], "frames": [noise(1, 56, 56)], **change}
    with pytest.raises(InputError, match=message):
        prepare_inputs(tokenizer, make_config(), **arguments)


def test_errors_of_prepared_pictures(tokenizer: Tokenizer) -> None:
    config = make_config()
    with pytest.raises(InputError, match="text_length is 2: raise it"):
        pictures = patched_pictures(config, [noise(1, 56, 56)])
        inputs_of_pictures(tokenizer, config, ["make it blue"], pictures, text_length=2)
    with pytest.raises(InputError, match="multiples of 2 patches"):
        inputs_of_pictures(tokenizer, config, ["make it blue"], pictures_of_grids(config, 2, (1, 3, 4)))


def test_unequal_samples_are_refused(tokenizer: Tokenizer) -> None:
    config = make_config(max_image_pixels=10 * 3136)
    with pytest.raises(InputError, match=r"sources of one batch differ in shape"):
        prepare_inputs(tokenizer, config, ["a", "b"], [noise(1, 56, 56), noise(1, 56, 112)])
    pictures = [[noise(1, 56, 56)], [noise(1, 56, 112)]]
    with pytest.raises(InputError, match=r"references of one batch differ in shape \(112x56, 56x56\).*one at a time"):
        prepare_inputs(tokenizer, config, ["a", "b"], [noise(1, 56, 56)] * 2, pictures)
    with pytest.raises(InputError, match=r"clips of \[1, 2\] frames"):
        prepare_inputs(tokenizer, config, ["a", "b"], [noise(1, 56, 56), noise(2, 56, 56)])
    inputs = prepare_inputs(tokenizer, config, ["a"], [noise(1, 56, 56)])
    with pytest.raises(InputError, match="3 image queries, the encoder 16"):
        build(dataclasses.replace(config, instruction=tiny().instruction))(inputs)
