"""Kiwi-Edit's files: names, what is inferred, and that a loaded checkpoint edits as the one it was written from."""

from __future__ import annotations

import dataclasses
import functools
import logging

import pytest
import torch
from kiwi_files import (
    adapter,
    config,
    dit_state,
    folder,
    pipe,
    qwen_folder,
    stage_tensors,
    training_file,
    training_name,
    vae_state,
)
from small import save
from tiny import clip

from instructx_core.config import DenoiserConfig, LoraConfig, MllmConfig, SamplingConfig, VaeConfig, kiwi_5b
from instructx_core.encoder.designs import build_encoder
from instructx_core.errors import InputError
from instructx_core.formats.layouts import kiwi_config, kiwi_names
from instructx_core.formats.layouts.adapter import load_adapter
from instructx_core.weights import load_pipeline

CONFIG = config()
NAME = "wan2.2_ti2v_5b_qwen25vl_3b_stage3_img_vid_refvid_720x1280_81f"


# --- names and sizes of the public files ---------------------------------------------------------------------------


@functools.cache
def public_shapes(dim: int, channels: int, references: int, rank: int, targets: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an adapter of a public size, in our names, from the real classes on the meta device."""
    base = kiwi_5b()
    settings = dataclasses.replace(
        base,
        denoiser=dataclasses.replace(
            base.denoiser, dim=dim, num_heads=dim // 128, in_channels=channels, out_channels=channels
        ),
        vae=base.vae if channels == 48 else VaeConfig(),
        instruction=dataclasses.replace(base.instruction, num_reference_queries=references),
    )
    with torch.device("meta"):
        encoder = build_encoder(settings)
        encoder.add_lora(
            LoraConfig(rank=rank, alpha=rank, targets=LoraConfig().targets[:targets], scope="language_model")
        )
    own = ("queries.", "connector.", "reference_connector.")
    shapes = {k: tuple(v.shape) for k, v in encoder.state_dict().items() if k.startswith(own)}
    for name, value in encoder.lora_state_dict().items():
        shapes[name.removeprefix("mllm.").replace("language_model.", "model.", 1)] = tuple(value.shape)
    for name in ("source_embedder", "reference_embedder"):
        shapes |= {f"{name}.weight": (dim, channels, 1, 2, 2), f"{name}.bias": (dim,)}
    return shapes


def test_names_of_the_public_training_file() -> None:
    """303 tensors beside the 825 of the DiT; every one back to its own name, with and without `pipe.`."""
    shapes = public_shapes(3072, 48, 768, 64, 4)
    names = {training_name(name): name for name in shapes}
    assert len(names) == 1128 - 825
    assert "mllm.model.model.language_model.layers.35.self_attn.o_proj.lora_B.default.weight" in names
    for theirs, ours in names.items():
        assert kiwi_names.adapter_name(theirs) == kiwi_names.adapter_name(f"pipe.{theirs}") == ours
        assert kiwi_names.adapter_name(theirs.replace("connetor", "connector")) == ours
        assert kiwi_names.wan_name(theirs) is None
    for key in ("dit.blocks.0.self_attn.q.weight", "blocks.0.ffn.2.lora_A.default.weight", "pipe.dit.head.modulation"):
        assert kiwi_names.adapter_name(key) is None and kiwi_names.wan_name(key) is not None
    with pytest.raises(InputError, match="unknown tensor name"):
        kiwi_names.adapter_name("mllm.model.model.visual.merger.weight")


def test_config_of_the_public_5b_is_the_preset() -> None:
    sizes = {"dim": 3072, "ffn_dim": 14336, "num_layers": 30, "num_heads": 24, "in_channels": 48, "out_channels": 48}
    made = kiwi_config.infer_config(
        public_shapes(3072, 48, 768, 64, 4),
        name="kiwi_5b",
        mllm=MllmConfig(),
        denoiser=DenoiserConfig(**sizes),
        vae=kiwi_5b().vae,
    )
    assert made == kiwi_5b()


def test_a_5b_of_any_name_is_run_at_its_size() -> None:
    made = kiwi_config.infer_config(
        public_shapes(3072, 48, 768, 64, 4),
        name="my edits, epoch 3",
        mllm=MllmConfig(),
        denoiser=kiwi_5b().denoiser,
        vae=kiwi_5b().vae,
        settings=kiwi_config.KiwiSettings(sigma_min=kiwi_config.DIFFUSERS_SIGMA_MIN),
    )
    usual = made.sampling
    assert (usual.width, usual.height, usual.frames, usual.fps) == (1280, 704, 121, 24.0)
    assert usual.sigma_min == kiwi_config.DIFFUSERS_SIGMA_MIN


def test_config_of_the_14b_layout() -> None:
    made = kiwi_config.infer_config(
        public_shapes(5120, 16, 384, 256, 7), name="14b", mllm=MllmConfig(), denoiser=DenoiserConfig(), vae=VaeConfig()
    )
    assert made.lora == LoraConfig(rank=256, alpha=256, targets=LoraConfig().targets, scope="language_model")
    assert made.instruction.num_reference_queries == 384
    assert made.instruction.max_reference_pixels == 384 * 28 * 28
    assert made.sampling == SamplingConfig() and made.trained_on == ""


@pytest.mark.parametrize(
    ("told", "name", "chosen", "want"),
    [
        (None, NAME, None, "last"),
        (None, "wan2.2_ti2v_5b_qwen25vl_3b_stage3_refvid_only_720x1280_81f_pad_first", None, "first"),
        (False, "x_pad_first", None, "last"),
        (True, NAME, None, "first"),
        (True, "x_pad_first", "last", "last"),
    ],
)
def test_who_says_where_the_reference_stands(told, name, chosen, want) -> None:
    where, why = kiwi_config.reference_position(told, name, chosen)
    assert where == want
    assert ("warning: only the name tells" in why) == (told is None and chosen is None)


# --- a loaded checkpoint edits as the one it was written from ------------------------------------------------------


def edit(made, with_reference: bool = True):
    made.set_progress_bar_config(disable=True)
    picture = clip(1, 40, 20, seed=2)[0] if with_reference else None
    generator = torch.Generator().manual_seed(3)
    return made(
        clip(), "make it blue", picture, num_inference_steps=2, generator=generator, output_type="latent"
    ).frames


def close(have, want) -> None:
    error = float((have - want).abs().max() / want.abs().max())
    assert error < 1e-5, f"relative error {error:.1e}"


@pytest.fixture
def base(tmp_path):
    """VAE and Qwen as an artist has them; Qwen's folder brings the tokenizer."""
    qwen = qwen_folder(tmp_path / "qwen", CONFIG)
    return {"vae": save(tmp_path / "wan_2.1_vae.safetensors", vae_state(CONFIG)), "text_encoder": qwen}


@pytest.mark.parametrize("pipe_left", [False, True])
def test_stage_3_file(tmp_path, base, caplog, pipe_left: bool) -> None:
    file = training_file(tmp_path / f"{NAME}.safetensors", CONFIG, pipe_left=pipe_left)
    with caplog.at_level(logging.INFO, "instructx"):
        loaded = load_pipeline(file, **base)
    assert loaded.instructx_config == dataclasses.replace(CONFIG, name=NAME)
    close(edit(loaded), edit(pipe(CONFIG)))
    kinds = [report.kind for report in loaded.load_reports]
    assert kinds[0] == "Kiwi-Edit training file with the whole DiT, F32" and len(kinds) == 4
    assert "state no licence" in caplog.text and "reference tokens stand last in the sequence" in caplog.text


def test_pad_first_by_the_name_and_against_it(tmp_path, base) -> None:
    first = config(reference_position="first")
    file = training_file(tmp_path / "stage3_refvid_only_81f_pad_first.safetensors", first)
    close(edit(load_pipeline(file, **base)), edit(pipe(first)))
    asked = load_pipeline(file, **base, reference_position="last")
    assert asked.transformer.config.reference_position == "last"
    with pytest.raises(InputError, match="reference_position is 'middle'"):
        load_pipeline(file, **base, reference_position="middle")  # type: ignore[arg-type]


def test_stage_2_file_refuses_references(tmp_path, base) -> None:
    loaded = load_pipeline(training_file(tmp_path / "stage2_img_vid_720x1280_81f.safetensors", CONFIG, 2), **base)
    close(edit(loaded, False), edit(pipe(CONFIG), False))
    assert "queries.reference" in loaded.load_reports[0].missing
    with pytest.raises(InputError, match="takes no reference"):
        edit(loaded)


def test_stage_1_file_with_the_base_dit(tmp_path, base) -> None:
    """Images only, DiT unchanged, source seen by Qwen alone."""
    dit = save(tmp_path / "wan.safetensors", dit_state(CONFIG))
    file = training_file(tmp_path / "stage1_img_only.safetensors", CONFIG, 1, dit=False)
    loaded = load_pipeline(file, denoiser=dit, **base)
    made, one = pipe(CONFIG), clip(1)
    options = {"num_inference_steps": 2, "output_type": "latent"}
    have = loaded(one, "make it red", generator=torch.Generator().manual_seed(1), **options).frames
    without = made.transformer.source_embedder.weight, made.transformer.source_embedder.bias
    kept = [value.detach().clone() for value in without]
    with torch.no_grad():
        for value in without:
            value.zero_()
        want = made(one, "make it red", generator=torch.Generator().manual_seed(1), **options).frames
        for value, old in zip(without, kept, strict=True):
            value.copy_(old)
    close(have, want)
    with pytest.raises(InputError, match="no queries for video edits"):
        edit(loaded, False)
    with pytest.raises(InputError, match="no denoiser was given"):
        load_pipeline(file, **base)


def test_file_with_a_lora_of_the_dit(tmp_path, base) -> None:
    """The 14B layout: base DiT + LoRA of its linears. Merged by hand it is the file with the whole DiT."""
    state, lora = dit_state(CONFIG), {}
    torch.manual_seed(5)
    for name in ("self_attn.q", "self_attn.o", "cross_attn.v", "ffn.0", "ffn.2"):
        out, into = state[f"blocks.1.{name}.weight"].shape
        lora[f"dit.blocks.1.{name}.lora_A.default.weight"] = torch.randn(3, into) * 0.1
        lora[f"dit.blocks.1.{name}.lora_B.default.weight"] = torch.randn(out, 3) * 0.1
    merged = dict(state)
    for key, down in lora.items():
        if ".lora_A." in key:
            name = key.removeprefix("dit.").replace("lora_A.default.", "")
            merged[name] = merged[name] + lora[key.replace("lora_A", "lora_B")] @ down
    tensors = stage_tensors(CONFIG, 3)
    file = save(tmp_path / "kiwi_14b.safetensors", tensors | lora)
    dit = save(tmp_path / "wan.safetensors", state)
    whole = save(tmp_path / "whole.safetensors", tensors | {f"dit.{name}": value for name, value in merged.items()})
    loaded = load_pipeline(file, denoiser=dit, **base)
    close(edit(loaded), edit(load_pipeline(whole, **base)))
    assert "LoRA of rank 3 on 5 weights of the DiT" in " ".join(report.kind for report in loaded.load_reports)
    assert not torch.allclose(edit(loaded), edit(pipe(CONFIG)))


def test_connector_in_front_of_the_text_embedding(tmp_path, base) -> None:
    text = config(context="text")
    loaded = load_pipeline(training_file(tmp_path / "text.safetensors", text), **base)
    assert loaded.instructx_config.denoiser.context == "text"
    assert loaded.encoder.connector[2].weight.shape == (64, 64)
    close(edit(loaded), edit(pipe(text)))


@pytest.mark.parametrize("kind", ["instruct-only", "reference-only", "instruct-reference"])
def test_diffusers_folders(tmp_path, kind: str) -> None:
    first = kind == "reference-only"
    settings = config(reference_position="first") if first else CONFIG
    root = folder(tmp_path / f"kiwi-edit-5b-{kind}-diffusers", settings, kind, told=first or None)
    loaded = load_pipeline(root)
    with_reference = kind != "instruct-only"
    made = pipe(settings)
    want = made(
        clip(),
        "make it blue",
        clip(1, 40, 20, seed=2)[0] if with_reference else None,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
        sigma_min=kiwi_config.DIFFUSERS_SIGMA_MIN,
    ).frames
    close(edit(loaded, with_reference), want)
    assert loaded.instructx_config.denoiser.reference_embedder == ("own" if with_reference else "none")
    assert loaded.instructx_config.mllm == CONFIG.mllm
    assert loaded.transformer.config.reference_position == settings.denoiser.reference_position


def test_lora_layers_stay_to_train_on(tmp_path, base) -> None:
    loaded = load_pipeline(training_file(tmp_path / "kiwi.safetensors", CONFIG), **base, merge_lora=False)
    lora = loaded.encoder.lora_state_dict()
    assert lora and all(torch.equal(value, pipe(CONFIG).encoder.lora_state_dict()[key]) for key, value in lora.items())


# --- what is refused -----------------------------------------------------------------------------------------------


def test_broken_files_are_named(tmp_path, base) -> None:
    tensors = {**stage_tensors(CONFIG, 3), **{f"dit.{k}": v for k, v in dit_state(CONFIG).items()}}
    for name, change, message in (
        ("no_connector", lambda t: {k: v for k, v in t.items() if "connetor" not in k}, "lacks queries or connector"),
        ("strange", lambda t: {**t, "vision.proj": torch.zeros(2)}, "unknown tensor name 'vision.proj'"),
        ("twice", lambda t: {**t, "pipe.mllm.image_queries.q": torch.zeros(4, 128)}, "two spellings"),
        ("wide", lambda t: {**t, "mllm.connetor.2.weight": torch.zeros(96, 128)}, "ends at width 96, the DiT has 128"),
    ):
        file = save(tmp_path / f"{name}.safetensors", change(tensors))
        with pytest.raises(InputError, match=message):
            load_pipeline(file, **base)
    narrow = qwen_folder(tmp_path / "narrow", config(), shards=1)
    import json

    told = json.loads((narrow / "config.json").read_text())
    (narrow / "config.json").write_text(json.dumps({**told, "num_attention_heads": 3}))
    with pytest.raises(InputError):
        load_pipeline(save(tmp_path / "good.safetensors", tensors), **{**base, "text_encoder": narrow})


def test_incomplete_folders_are_named(tmp_path) -> None:
    root = folder(tmp_path / "kiwi", CONFIG)
    (root / "ref_embedder" / "config.json").write_text('{"ref_pad_first": "yes"}')
    with pytest.raises(InputError, match="ref_pad_first is 'yes', no bool"):
        load_adapter(root)
    (root / "ref_embedder" / "config.json").unlink()
    (root / "mllm_encoder" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(
        InputError, match=r"no mllm_encoder/diffusion_pytorch_model\.safetensors .*queries and connector"
    ):
        load_adapter(root)


def test_adapter_alone_takes_the_public_sizes(tmp_path) -> None:
    """In ComfyUI the DiT and the VAE come from native loaders: the connector's width tells which they are."""
    tensors = stage_tensors(CONFIG, 3)
    with pytest.raises(InputError, match="its connector ends at width 128; give the DiT"):
        load_adapter(save(tmp_path / "small.safetensors", tensors))
    made = load_adapter(
        training_file(tmp_path / "whole.safetensors", CONFIG), text_encoder=qwen_folder(tmp_path / "q", CONFIG)
    )
    assert made.config.denoiser == CONFIG.denoiser and made.tensors.keys() == adapter(CONFIG).keys()
