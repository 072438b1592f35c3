"""Checkpoints: names both ways, what is written, what is refused."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny import clip, own_config, pipeline, randomise, small_config

from instructx_core import weights
from instructx_core.config import kiwi_5b, paper_14b, tiny
from instructx_core.denoiser import build_denoiser
from instructx_core.encoder.designs import build_encoder
from instructx_core.errors import InputError
from instructx_core.formats import loading
from instructx_core.formats.layouts import keymaps, qwen_names
from instructx_core.formats.layouts.adapter import load_adapter
from instructx_core.formats.layouts.modules import empty_parameters
from instructx_core.formats.layouts.weight_file import open_weights
from instructx_core.vae import build_vae

PRESETS = [paper_14b, kiwi_5b, tiny]


def read_config(path):
    with open_weights(path) as file:
        return file.config


def edit(pipe, **kwargs):
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    return pipe(clip(), "make it blue", clip(1, 40, 20)[0], generator=generator, output_type="latent", **kwargs).frames


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", PRESETS, ids=lambda f: f.__name__)
@pytest.mark.compat
def test_dit_names_round_trip_and_equal_the_converter_of_diffusers(build):
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    with torch.device("meta"):
        names = [n for n in build_denoiser(build()).state_dict() if not n.startswith(weights.EMBEDDERS)]
    original = [keymaps.dit_to_original(n) for n in names]
    assert [keymaps.dit_to_diffusers(n) for n in original] == names and len(set(original)) == len(names)
    assert convert_wan_transformer_to_diffusers(dict(zip(original, names, strict=True))) == {n: n for n in names}
    assert len(names) == {"paper_14b": 1095, "kiwi_5b": 825, "tiny": 177}[build.__name__]
    assert {"head.modulation", "text_embedding.2.bias", "blocks.0.modulation", "time_projection.1.weight"} <= set(
        original
    )


@pytest.mark.parametrize("build", PRESETS, ids=lambda f: f.__name__)
@pytest.mark.compat
def test_vae_names_round_trip(build):
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    config = build().vae
    with torch.device("meta"):
        names = list(build_vae(config).state_dict())
    original = [keymaps.vae_to_original(n, config) for n in names]
    assert [keymaps.vae_to_diffusers(n, config) for n in original] == names and len(set(original)) == len(names)
    assert {"encoder.conv1.weight", "conv2.bias", "decoder.middle.0.residual.0.gamma"} <= set(original)
    if config.is_residual:  # diffusers has no converter; these three were read in Wan2.2's own code
        nested = {
            "encoder.downsamples.0.downsamples.2.resample.1.weight",
            "decoder.upsamples.3.upsamples.2.residual.6.bias",
            "decoder.upsamples.1.upsamples.3.time_conv.weight",
        }
        assert nested <= set(original) and len(names) == 196
    else:
        assert convert_wan_vae_to_diffusers(dict(zip(original, names, strict=True))) == {n: n for n in names}
        assert len(names) == 194


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match=r"img_emb\.proj\.0\.weight"):
        keymaps.dit_to_diffusers("img_emb.proj.0.weight")


def test_qwen_names():
    for theirs, ours in {
        "model.layers.0.self_attn.q_proj.weight": "language_model.layers.0.self_attn.q_proj.weight",
        "model.language_model.norm.weight": "language_model.norm.weight",
        "model.visual.merger.ln_q.weight": "visual.merger.ln_q.weight",
        "visual.patch_embed.proj.weight": "visual.patch_embed.proj.weight",
        "lm_head.weight": None,
    }.items():
        assert qwen_names.mllm_from_original(theirs) == ours
    with torch.device("meta"):
        names = list(build_encoder(small_config()).mllm.state_dict())
    assert [qwen_names.mllm_from_original(qwen_names.mllm_to_original(n)) for n in names] == names


# --- round trip ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [small_config(), own_config()], ids=["instructx", "kiwi"])
def test_fp32_round_trip_is_exact(config, tmp_path):
    pipe = pipeline(config)
    files = weights.save_checkpoint(tmp_path / "model", pipe, dtype=torch.float32)
    loaded = weights.load_pipeline(tmp_path / "model")
    assert loaded.instructx_config == config and torch.equal(edit(loaded), edit(pipe))
    again = weights.load_pipeline(dataclasses.replace(files))
    assert torch.equal(edit(again), edit(pipe))
    text = "make the circle blue"
    assert loaded.tokenizer(text).input_ids == pipe.tokenizer(text).input_ids


def test_bf16_files_load_in_any_dtype(tmp_path):
    pipe = pipeline(own_config())
    weights.save_checkpoint(tmp_path / "model", pipe)
    wide = weights.load_pipeline(tmp_path / "model")
    assert wide.transformer.dtype == wide.vae.dtype == wide.encoder.dtype == torch.float32
    for ours, theirs in zip(wide.transformer.parameters(), pipe.transformer.parameters(), strict=True):
        assert torch.equal(ours, theirs.bfloat16().float())
    half = weights.load_pipeline(tmp_path / "model", dtype=torch.bfloat16)
    assert half.transformer.dtype == torch.bfloat16
    fp32 = {n.split(".")[-1] for n, p in half.transformer.named_parameters() if p.dtype == torch.float32}
    assert "scale_shift_table" in fp32 and half.transformer.source_embedder.weight.dtype == torch.float32
    assert (edit(half) - edit(wide)).abs().mean() < 0.05 * edit(wide).abs().mean()


def test_lora_is_saved_apart_and_merged_on_load(tmp_path):
    config = small_config()
    pipe = pipeline(config)
    before = edit(pipe)
    pipe.encoder.add_lora(config.lora)
    randomise(pipe.encoder, seed=4)
    with_lora = edit(pipe)
    assert not torch.allclose(with_lora, before)
    files = weights.save_checkpoint(tmp_path / "model", pipe, dtype=torch.float32)
    assert not any(".lora_" in key or "base_layer" in key for key in load_file(files.text_encoder))
    lora = [key for key in load_file(files.adapter) if ".lora_" in key]
    assert "model.layers.0.self_attn.q_proj.lora_A.weight" in lora and len(lora) == 2 * 7 * config.mllm.num_layers
    torch.testing.assert_close(edit(weights.load_pipeline(tmp_path / "model")), with_lora, rtol=1e-4, atol=1e-5)
    apart = weights.load_pipeline(tmp_path / "model", merge_lora=False)
    assert torch.equal(edit(apart), with_lora) and len(apart.encoder.lora_state_dict()) == len(lora)
    assert torch.equal(edit(pipe), with_lora)  # saving changed nothing


def test_unfused_lora_of_the_dit_is_refused(tmp_path):
    from peft import LoraConfig

    pipe = pipeline()
    pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
    with pytest.raises(InputError, match="fuse_lora"):
        weights.save_checkpoint(tmp_path / "model", pipe)
    assert not list(tmp_path.iterdir())


def test_files_carry_original_names_and_the_config(tmp_path):
    config = own_config()
    files = weights.save_checkpoint(tmp_path / "model", pipeline(config))
    relative = sorted(str(p.relative_to(tmp_path / "model")) for p in (tmp_path / "model").rglob("*") if p.is_file())
    assert relative == [
        "diffusion_models/instructx_tiny.safetensors", "model_patches/instructx_tiny.safetensors",
        "text_encoders/instructx_tiny.safetensors", "tokenizer.json", "vae/instructx_tiny.safetensors",
    ]  # fmt: skip
    for file in (files.denoiser, files.vae, files.text_encoder, files.adapter):
        assert read_config(file) == config
        with safe_open(file, "pt") as handle:
            assert handle.metadata()["format"] == "pt"
    dit, vae, adapter = load_file(files.denoiser), load_file(files.vae), load_file(files.adapter)
    # what ComfyUI's model detection reads
    assert dit["head.modulation"].shape == (1, 2, 256) and dit["patch_embedding.weight"].shape == (256, 16, 1, 2, 2)
    assert "blocks.1.modulation" in dit and not any("embedder" in key for key in dit)
    assert vae["decoder.head.0.gamma"].shape[0] == config.vae.base_dim
    assert sorted(adapter) == sorted(
        ["queries.image", "queries.video"]
        + [f"connector.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")]
        + [f"{part}_embedder.{kind}" for part in ("source", "reference") for kind in ("weight", "bias")]
    )
    assert all(t.dtype == torch.bfloat16 for t in (*dit.values(), *vae.values(), *adapter.values()))


def test_repackaged_and_diffusers_spellings_load(tmp_path):
    config = small_config()
    pipe = pipeline(config)
    files = weights.save_checkpoint(tmp_path / "model", pipe, dtype=torch.float32)
    state = load_file(files.denoiser)
    for name, spell in {
        "wrapped": lambda key: f"model.diffusion_model.{key}",
        "diffusers": keymaps.dit_to_diffusers,
    }.items():
        path = tmp_path / f"{name}.safetensors"
        save_file({spell(key): value for key, value in state.items()}, path)  # no metadata: a plain Wan file
        model = loading.load_denoiser(path, config, dtype=torch.float32)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), pipe.transformer.parameters(), strict=True))
    qwen = {
        f"model.language_model.{k[6:]}" if k.startswith("model.") else f"model.{k}": v
        for k, v in load_file(files.text_encoder).items()
    }
    save_file(qwen | {"lm_head.weight": torch.zeros(2, 2)}, tmp_path / "qwen.safetensors")
    adapter = load_adapter(files.adapter).tensors
    encoder = loading.load_encoder(tmp_path / "qwen.safetensors", config, adapter, torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(encoder.parameters(), pipe.encoder.parameters(), strict=True))


def test_empty_parameters_keeps_buffers():
    with empty_parameters():
        model = build_denoiser(small_config())
    assert all(p.is_meta for p in model.parameters()) and not any(b.is_meta for b in model.buffers())
    assert not torch.nn.Linear(1, 1).weight.is_meta


# --- writing whole or not at all -----------------------------------------------------------------------------------


def test_saving_twice_replaces_and_leaves_no_rest(tmp_path):
    pipe = pipeline()
    target = tmp_path / "model"
    weights.save_checkpoint(target, pipe, name="one")
    weights.save_checkpoint(target, pipe, name="two")
    assert weights.find_files(target).vae.name == "two.safetensors" and [p.name for p in tmp_path.iterdir()] == [
        "model"
    ]
    (target / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        weights.save_checkpoint(target, pipe)
    assert (target / "notes.txt").read_text() == "mine" and weights.find_files(target).vae.name == "two.safetensors"


def test_a_failed_save_keeps_the_old_checkpoint(tmp_path):
    pipe = pipeline()
    files = weights.save_checkpoint(tmp_path / "model", pipe)
    before = files.vae.read_bytes()
    broken = SimpleNamespace(**{k: getattr(pipe, k) for k in ("vae", "transformer", "encoder", "tokenizer")})
    with torch.no_grad():
        broken.encoder.queries["image"][0, 0] = float("nan")
    for target in ("model", "new"):
        with pytest.raises(InputError, match=r"queries\.image holds NaN"):
            weights.save_checkpoint(tmp_path / target, broken, small_config())
    assert files.vae.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["model"]


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "model"
    weights.save_checkpoint(folder, pipeline(own_config()), dtype=torch.float32)
    return folder


def rewrite(path, change, config=None):
    tensors = load_file(path)
    metadata = {"instructx": (config or read_config(path)).to_json()}
    change(tensors)
    save_file(tensors, path, metadata=metadata)


def drop(name):
    return lambda tensors: tensors.pop(name)


def put(name, value):
    return lambda tensors: tensors.update({name: value})


NAN = torch.full((1, 2, 256), float("nan"))


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("denoiser", drop("head.modulation"), r"1 missing \(head\.modulation\)"),
        ("denoiser", put("img_emb.x", torch.zeros(1)), "Wan DiT for image-to-video"),
        ("denoiser", put("colour.x", torch.zeros(1)), r"unknown tensor name 'colour\.x'"),
        ("denoiser", put("blocks.7.modulation", torch.zeros(1, 6, 256)), r"1 unexpected \(blocks\.7\.modulation\)"),
        ("denoiser", put("head.modulation", torch.zeros(1, 2, 8)), r"head\.modulation \(1, 2, 8\), expected"),
        ("denoiser", put("head.modulation", NAN), r"head\.modulation holds NaN"),
        ("denoiser", put("head.modulation", NAN.to(torch.float8_e4m3fn)), "holds NaN"),
        ("denoiser", put("head.modulation", torch.zeros(1, 2, 256, dtype=torch.int32)), "I32, no plain weight"),
        ("vae", drop("conv1.weight"), r"missing \(conv1\.weight\)"),
        ("text_encoder", drop("model.norm.weight"), r"missing \(model\.norm\.weight\)"),
        ("adapter", drop("queries.video"), r"missing \(queries\.video\)"),
        ("adapter", drop("source_embedder.bias"), r"missing \(source_embedder\.bias\)"),
        ("adapter", put("queries.image", torch.zeros(5, 128)), r"queries\.image \(5, 128\)"),
        ("adapter", put("model.layers.0.mlp.up_proj.lora_A.weight", torch.zeros(32, 128)), "lora_B.weight is missing"),
    ],
)
def test_bad_tensors_are_named(saved, tmp_path, part, change, message):
    folder = shutil.copytree(saved, tmp_path / "model")
    rewrite(getattr(weights.find_files(folder), part), change)
    with pytest.raises(InputError, match=message) as caught:
        weights.load_pipeline(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("part", "field"), [("denoiser", "denoiser"), ("vae", "vae"), ("text_encoder", "mllm")])
def test_files_of_another_profile_are_refused(saved, tmp_path, part, field):
    folder = shutil.copytree(saved, tmp_path / "model")
    path = getattr(weights.find_files(folder), part)
    rewrite(path, lambda tensors: None, paper_14b())
    with pytest.raises(InputError, match=rf"belongs to paper_14b \({field}\."):
        weights.load_pipeline(folder)


def test_an_adapter_of_another_profile_is_refused(saved):
    files = weights.find_files(saved)
    with open_weights(files.adapter) as file, pytest.raises(InputError, match="belongs to tiny"):
        file.agree(paper_14b(), "denoiser")
    with pytest.raises(InputError, match="carries no InstructX config"):
        path = files.adapter.with_name("plain.safetensors")
        save_file({"x": torch.zeros(1)}, path)
        try:
            load_adapter(path)
        finally:
            path.unlink()


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".pkl"])
def test_pickles_are_refused_unopened(saved, tmp_path, suffix):
    trap = tmp_path / f"model{suffix}"
    with trap.open("wb") as handle:
        pickle.dump({"x": 1}, handle)
    files = dataclasses.replace(weights.find_files(saved), denoiser=trap)
    with pytest.raises(InputError, match=r"pickle file.*\.safetensors"):
        weights.load_pipeline(files)


def test_damaged_missing_and_ambiguous_files(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "model")
    files = weights.find_files(folder)
    data = files.vae.read_bytes()
    for broken in (data[: len(data) // 2], data[:4], b"", b"not a safetensors file" * 4):
        files.vae.write_bytes(broken)
        with pytest.raises(InputError, match=r"damaged|incomplete"):
            weights.load_pipeline(folder)
    files.vae.write_bytes(data)
    shutil.copy(files.vae, files.vae.with_name("other.safetensors"))
    with pytest.raises(InputError, match="several files"):
        weights.load_pipeline(folder)
    weights.load_pipeline(folder, name="instructx_tiny")
    files.tokenizer.unlink()
    with pytest.raises(InputError, match="no tokenizer"):
        weights.load_pipeline(folder, name="instructx_tiny")
    shutil.rmtree(files.vae.parent)
    with pytest.raises(InputError, match="no vae/"):
        weights.load_pipeline(folder)
    with pytest.raises(InputError, match="no folder"):
        weights.load_pipeline(tmp_path / "nowhere")


def test_an_unreadable_config_is_named(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "model")
    path = weights.find_files(folder).adapter
    config = json.loads(own_config().to_json()) | {"colour": 1}
    save_file(load_file(path), path, metadata={"instructx": json.dumps(config)})
    with pytest.raises(InputError, match="colour"):
        weights.load_pipeline(folder)
