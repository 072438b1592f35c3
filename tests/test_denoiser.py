"""The DiT: equal to stock Wan where it must be, and to the paper. Against the public reference: test_parity_kiwi.py."""

from __future__ import annotations

import pytest
import torch
from diffusers import WanTransformer3DModel
from tiny import draw, own_config, own_memory, randomise, small_config

from instructx_core.config import kiwi_5b, paper_14b
from instructx_core.denoiser import InstructXTransformer3DModel, build_denoiser
from instructx_core.errors import InputError

OURS = ("source_embedding", "source_scale", "reference_embedding", "reference_position", "context", "timestep_rounding")


def model_of(config=None, seed: int = 0) -> InstructXTransformer3DModel:
    torch.manual_seed(seed)
    return randomise(build_denoiser(config or small_config()))


def stock_of(model: InstructXTransformer3DModel) -> WanTransformer3DModel:
    config = {k: v for k, v in model.config.items() if k not in OURS and not k.startswith("_")}
    stock = WanTransformer3DModel(**config)
    state = {k: v for k, v in model.state_dict().items() if not k.startswith(("source_", "reference_"))}
    stock.load_state_dict(state)
    return stock.eval()


NOISE, SOURCE = draw(2, 16, 3, 4, 6), draw(2, 16, 3, 4, 6, seed=1)
REFERENCE, CONTEXT = draw(2, 16, 1, 4, 6, seed=2), draw(2, 7, 256, seed=3)
TIMESTEP = torch.tensor([873.25, 120.5])


@torch.no_grad()
def test_without_conditions_it_is_stock_wan():
    model = model_of()
    text = draw(2, 7, 64, seed=4)
    ours = model(NOISE, TIMESTEP, text, text=True).sample
    assert torch.equal(ours, stock_of(model)(NOISE, TIMESTEP, text).sample)


@torch.no_grad()
def test_context_skips_the_text_embedding():
    model = model_of()
    text = draw(2, 7, 64, seed=4)
    embedded = model.condition_embedder.text_embedder(text)
    assert torch.equal(model(NOISE, TIMESTEP, embedded).sample, model(NOISE, TIMESTEP, text, text=True).sample)


@torch.no_grad()
def test_tied_source_is_the_sum_of_the_latents():
    """Paper 3.1, literally: "add the VAE encoding to the noisy latent"."""
    model = model_of()
    assert torch.equal(
        model(NOISE, TIMESTEP, CONTEXT, source=SOURCE).sample, model(NOISE + SOURCE, TIMESTEP, CONTEXT).sample
    )


@torch.no_grad()
def test_tied_equals_own_embedder_with_the_same_weights():
    """One code path: an own embedder holding patch_embedding's weights and no bias is the tied one."""
    tied = model_of().double()
    own = build_denoiser(small_config(source_embedder="own", reference_embedder="own")).double().eval()
    state = tied.state_dict()
    patch = state["patch_embedding.weight"], state["patch_embedding.bias"]
    state |= {"source_embedder.weight": patch[0], "source_embedder.bias": torch.zeros_like(patch[1])}
    state |= {"reference_embedder.weight": patch[0], "reference_embedder.bias": patch[1]}
    own.load_state_dict(state)
    inputs = (NOISE.double(), TIMESTEP, CONTEXT.double(), SOURCE.double(), REFERENCE.double())
    torch.testing.assert_close(own(*inputs).sample, tied(*inputs).sample, rtol=0, atol=1e-12)


@torch.no_grad()
def test_own_embedders_start_without_effect():
    model = build_denoiser(own_config()).eval()
    plain = model(NOISE, TIMESTEP, CONTEXT).sample
    assert torch.equal(model(NOISE, TIMESTEP, CONTEXT, source=SOURCE).sample, plain)
    assert model.source_embedder.weight.requires_grad


@torch.no_grad()
def test_sigma_scale_fades_the_source_out():
    model = model_of(own_config())
    late = torch.zeros(2)
    assert torch.equal(model(NOISE, late, CONTEXT, source=SOURCE).sample, model(NOISE, late, CONTEXT).sample)
    assert not torch.equal(
        model(NOISE, TIMESTEP, CONTEXT, source=SOURCE).sample, model(NOISE, TIMESTEP, CONTEXT).sample
    )


@torch.no_grad()
@pytest.mark.parametrize("position", ["last", "first"])
def test_tied_reference_is_one_more_frame_of_stock_wan(position):
    """A tied reference is one more frame after (or before) the video, its prediction thrown away."""
    model = model_of(small_config(reference_position=position))
    text = draw(2, 7, 64, seed=4)
    ours = model(NOISE, TIMESTEP, text, references=REFERENCE, text=True).sample
    parts = (NOISE, REFERENCE) if position == "last" else (REFERENCE, NOISE)
    stock = stock_of(model)(torch.cat(parts, 2), TIMESTEP, text).sample
    torch.testing.assert_close(ours, stock[:, :, :3] if position == "last" else stock[:, :, 1:], rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_samples_do_not_mix_and_several_references_count():
    model = model_of(own_config())
    references = torch.cat([REFERENCE, REFERENCE.flip(-1)], dim=2)
    both = model(NOISE, TIMESTEP, CONTEXT, SOURCE, references).sample
    second = model(NOISE[1:], TIMESTEP[1:], CONTEXT[1:], SOURCE[1:], references[1:]).sample
    torch.testing.assert_close(both[1:], second, rtol=1e-5, atol=1e-6)
    one = model(NOISE, TIMESTEP, CONTEXT, SOURCE, REFERENCE).sample
    assert not torch.allclose(both, one)


def test_rope_cache_follows_the_grid_and_allows_training():
    model = model_of()
    with torch.inference_mode():
        model(NOISE, TIMESTEP, CONTEXT)
    model.train()
    out = model(NOISE, TIMESTEP, CONTEXT).sample  # tables built under inference_mode must not break autograd
    out.mean().backward()
    assert model.patch_embedding.weight.grad is not None
    other = draw(2, 16, 2, 6, 4)
    fresh = model_of()
    fresh.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(model.eval()(other, TIMESTEP, CONTEXT).sample, fresh(other, TIMESTEP, CONTEXT).sample)
        assert model.rope(other)[0] is model.rope(other)[0]


def test_gradient_checkpointing_gives_the_same_gradients():
    model = model_of(own_config()).train()
    grads = []
    for enabled in (False, True):
        model.gradient_checkpointing = False
        if enabled:
            model.enable_gradient_checkpointing()
        model.zero_grad()
        model(NOISE, TIMESTEP, CONTEXT, SOURCE, REFERENCE).sample.square().mean().backward()
        grads.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    assert "source_embedder.bias" in grads[0] and "reference_embedder.weight" in grads[0]
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, rtol=1e-5, atol=1e-8)


@torch.no_grad()
def test_save_load_keeps_every_switch_and_bit(tmp_path):
    model = model_of(own_config(reference_position="first"))
    model.save_pretrained(tmp_path)
    loaded = own_memory(InstructXTransformer3DModel.from_pretrained(tmp_path)).eval()
    assert {k: loaded.config[k] for k in OURS} == {k: model.config[k] for k in OURS}
    args = (NOISE, TIMESTEP, CONTEXT, SOURCE, REFERENCE)
    assert torch.equal(loaded(*args).sample, model(*args).sample)
    half = InstructXTransformer3DModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16 and half.source_embedder.weight.dtype == torch.float32
    out = half(*(x.bfloat16() if x is not TIMESTEP else x for x in args)).sample
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), model(*args).sample, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("build", [paper_14b, kiwi_5b], ids=lambda f: f.__name__)
def test_full_size_shapes_on_meta(build):
    config = build()
    with torch.device("meta"):
        model = build_denoiser(config)
        c, d = config.denoiser.in_channels, config.denoiser.dim
        noise = torch.empty(1, c, 21, 30, 52)
        out = model(noise, torch.empty(1), torch.empty(1, 512, d), noise, torch.empty(1, c, 2, 30, 52)).sample
    assert out.shape == noise.shape
    expected = {"paper_14b": 14_288_491_584, "kiwi_5b": 4_999_787_712 + 2 * (48 * 4 * 3072 + 3072)}
    assert sum(p.numel() for p in model.parameters()) == expected[config.name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": SOURCE[:, :, :2]}, "source latent"),
        ({"references": REFERENCE[..., :4]}, "reference latents"),
        ({"encoder_hidden_states": CONTEXT[..., :64]}, "context"),
        ({"timestep": TIMESTEP[:1]}, "timestep"),
        ({"hidden_states": NOISE[..., :3]}, "multiple of the patch"),
        ({"hidden_states": NOISE[:, :4]}, "latent"),
    ],
)
def test_wrong_shapes_are_named(change, message):
    args = {"hidden_states": NOISE, "timestep": TIMESTEP, "encoder_hidden_states": CONTEXT, **change}
    with pytest.raises(InputError, match=message):
        model_of()(**args)


def test_wrong_switches_are_named():
    with pytest.raises(InputError, match="source_scale"):
        build_denoiser(small_config(source_scale="sigma"))
    with pytest.raises(InputError, match="source_embedding"):
        InstructXTransformer3DModel(source_embedding="tide")
    with pytest.raises(InputError, match="image_dim"):
        InstructXTransformer3DModel(image_dim=1280)


# --- diffusers' machinery ------------------------------------------------------------------------------------------


@torch.no_grad()
def test_first_block_cache_and_mag_cache_run():
    from diffusers import FirstBlockCacheConfig

    model = model_of()
    args = (NOISE, TIMESTEP, CONTEXT, SOURCE, REFERENCE)
    plain = model(*args).sample
    model.enable_cache(FirstBlockCacheConfig(threshold=0.05))
    with model.cache_context("cond"):
        first = model(*args).sample
        again = model(*args).sample
    assert torch.equal(first, plain)
    torch.testing.assert_close(again, plain, rtol=1e-3, atol=1e-3)
    model.disable_cache()
    assert torch.equal(model(*args).sample, plain)


@torch.no_grad()
def test_layerwise_casting_leaves_our_embedders():
    model = model_of(own_config())
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert model.source_embedder.weight.dtype == model.reference_embedder.weight.dtype == torch.float32
    assert model.blocks[0].ffn.net[2].weight.dtype == torch.float8_e4m3fn
    assert torch.isfinite(model(NOISE, TIMESTEP, CONTEXT, SOURCE, REFERENCE).sample).all()


def has_accelerator_query() -> bool:
    """diffusers asks torch for the accelerator; torch below 2.7 raises where there is none instead of saying so."""
    try:
        torch.accelerator.current_accelerator()
    except RuntimeError:
        return False
    return True


@torch.no_grad()
@pytest.mark.skipif(not has_accelerator_query(), reason="this torch needs a GPU for group offloading")
@pytest.mark.parametrize("kind", ["block_level", "leaf_level"])
def test_group_offload_gives_the_same_result(kind):
    model = model_of(own_config())
    args = (NOISE, TIMESTEP, CONTEXT, SOURCE, REFERENCE)
    plain = model(*args).sample
    extra = {"num_blocks_per_group": 1} if kind == "block_level" else {}
    model.enable_group_offload(
        onload_device=torch.device("cpu"), offload_device=torch.device("cpu"), offload_type=kind, **extra
    )
    assert torch.equal(model(*args).sample, plain)


@torch.no_grad()
def test_lora_adapter_and_its_scale():
    from peft import LoraConfig

    model = model_of()
    args = (NOISE, TIMESTEP, CONTEXT, SOURCE)
    plain = model(*args).sample
    torch.manual_seed(1)
    model.add_adapter(LoraConfig(r=4, target_modules=["to_q", "to_v"], init_lora_weights=False))
    full = model(*args).sample
    assert not torch.allclose(full, plain)
    torch.testing.assert_close(model(*args, attention_kwargs={"scale": 0.0}).sample, plain, rtol=1e-5, atol=1e-6)
    model.disable_adapters()
    assert torch.equal(model(*args).sample, plain)
