"""The DiT from every layout of file; other kinds and sizes of Wan refused in one sentence."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from small import DIT, config, save, scaled, state, unscaled, write_gguf

from instructx_core.config import DenoiserConfig, kiwi_5b, paper_14b
from instructx_core.denoiser import build_denoiser
from instructx_core.errors import InputError
from instructx_core.formats.layouts import keymaps
from instructx_core.formats.layouts.dit import denoiser_name, dit_config, read_dit
from instructx_core.formats.layouts.modules import empty_parameters
from instructx_core.formats.layouts.weight_file import WeightFile, open_weights
from instructx_core.formats.loading import load_denoiser


@pytest.fixture(scope="module")
def wan():
    """Original name -> weight of a tiny DiT, fp32."""
    return state(build_denoiser(config()), keymaps.dit_to_original)


def load(path: Path, dtype=torch.float32, like=None):
    with empty_parameters():
        model = build_denoiser(like or config())
    with open_weights(path) as file:
        report = read_dit(model, file, like or config(), dtype=dtype)
    return {keymaps.dit_to_original(name): value for name, value in model.state_dict().items()}, report


def same(have, want, dtype=torch.float32):
    assert have.keys() == want.keys()
    return all(torch.equal(have[k].float(), want[k].to(dtype).float()) for k in want)


def sharded(folder: Path, tensors: dict) -> Path:
    """Three shards with an index, diffusers' way."""
    places = {}
    for n, key in enumerate(tensors):
        places[key] = f"diffusion_pytorch_model-{n % 3 + 1:05d}-of-00003.safetensors"
    for file in set(places.values()):
        save(folder / file, {key: tensors[key] for key, place in places.items() if place == file})
    (folder / "config.json").write_text("{}")
    index = folder / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return index


def test_every_layout_gives_the_same_weights(wan, tmp_path):
    bare = save(tmp_path / "bare.safetensors", wan)
    layouts = [bare]
    for wrapper in ("model.diffusion_model.", "diffusion_model."):
        layouts.append(save(tmp_path / f"{wrapper}safetensors", {wrapper + k: v for k, v in wan.items()}))
    theirs = {keymaps.dit_to_diffusers(k): v for k, v in wan.items()}
    save(tmp_path / "transformer" / "diffusion_pytorch_model.safetensors", theirs)
    index = sharded(tmp_path / "shards", theirs)
    layouts += [tmp_path / "transformer", index, index.parent, sharded(tmp_path / "original", wan)]
    for path in layouts:
        have, report = load(path)
        assert same(have, wan), path
        assert len(report.consumed) == len(wan) and not report.ignored and "F32" in report.kind
    assert len(load(index)[1].files) == 3
    have, _ = load(bare, torch.bfloat16)
    assert have["blocks.0.ffn.0.weight"].dtype == torch.bfloat16 and have["head.modulation"].dtype == torch.float32


def test_a_checkpoint_of_several_models_gives_its_dit(wan, tmp_path):
    others = {"vae.conv1.weight": torch.ones(2), "text_encoders.umt5xxl.x": torch.ones(2)}
    path = save(tmp_path / "x.safetensors", {f"model.diffusion_model.{k}": v for k, v in wan.items()} | others)
    have, report = load(path)
    assert same(have, wan) and sorted(report.ignored) == sorted(others) and "2 ignored" in str(report)


@pytest.mark.parametrize("spelling", [".scale_weight", ".weight_scale"])
def test_scaled_files_of_either_spelling(wan, tmp_path, spelling):
    file = {f"model.diffusion_model.{k}": v for k, v in scaled(wan, spelling).items()}
    have, report = load(save(tmp_path / "x.safetensors", file))
    assert same(have, unscaled(wan)) and "fp8_scaled" in report.kind
    assert (have["blocks.1.ffn.0.weight"] - wan["blocks.1.ffn.0.weight"]).abs().max() < 0.1


def test_plain_fp8(wan, tmp_path):
    path = save(tmp_path / "x.safetensors", {k: v.to(torch.float8_e4m3fn) for k, v in wan.items()})
    have, report = load(path)
    assert same(have, wan, torch.float8_e4m3fn) and "fp8 (F8_E4M3)" in report.kind


def test_gguf_with_the_shapes_that_its_tools_write(wan, tmp_path):
    gguf = pytest.importorskip("gguf")
    for flat in (False, True):
        tensors = {}
        for key, value in wan.items():
            kind = "Q8_0" if value.ndim == 2 and "modulation" not in key else "F32"
            data = value.numpy()
            if flat and key == "patch_embedding.weight":
                data = data.reshape(-1, *data.shape[2:])
            if flat and "modulation" in key:
                data = data[0]
            tensors[key] = (kind, gguf.quants.quantize(data, gguf.GGMLQuantizationType[kind]))
        path = write_gguf(tmp_path / f"{flat}.gguf", tensors)
        have, report = load(path)
        assert "GGUF (Q8_0, F32)" in report.kind or "GGUF (F32, Q8_0)" in report.kind
        assert all(have[k].shape == wan[k].shape and (have[k] - wan[k]).abs().max() < 0.05 for k in wan)
        assert torch.equal(have["patch_embedding.weight"], wan["patch_embedding.weight"])
        with open_weights(path) as file:
            assert dit_config(file) == DIT


# --- sizes ---------------------------------------------------------------------------------------------------------


class Shapes:
    """A source of names and shapes alone, of models too large for a test."""

    path, metadata, container = Path("x.safetensors"), {}, "safetensors"

    def __init__(self, shapes):
        self._shapes = shapes

    def keys(self):
        return list(self._shapes)

    def shape(self, key):
        return self._shapes[key]

    def dtype(self, key):
        return "BF16"


SMALL = dataclasses.replace(paper_14b(), denoiser=DenoiserConfig(dim=1536, ffn_dim=8960, num_layers=30, num_heads=12))


@pytest.mark.parametrize("model", [SMALL, paper_14b(), kiwi_5b()], ids=["1.3B", "14B", "5B"])
@pytest.mark.parametrize("rename", [keymaps.dit_to_original, str], ids=["original", "diffusers"])
def test_sizes_of_the_public_models_are_inferred(model, rename):
    with torch.device("meta"):
        names = build_denoiser(model).state_dict()
    shapes = {rename(k): tuple(v.shape) for k, v in names.items() if "_embedder." not in k or "condition" in k}
    embedders = {f.name: f.default for f in dataclasses.fields(DenoiserConfig) if "source" in f.name or "ref" in f.name}
    assert dit_config(WeightFile(Shapes(shapes))) == dataclasses.replace(model.denoiser, **embedders)


def test_another_size_is_one_sentence(wan, tmp_path):
    path = save(tmp_path / "x.safetensors", wan)
    with pytest.raises(InputError, match=r"width 128, 16 channels\), but kiwi_5b needs 2.2 TI2V-5B \(width 3072"):
        load_denoiser(path, kiwi_5b())
    with pytest.raises(InputError, match="48 channels"):
        load_denoiser(path, config(48))
    deeper = dataclasses.replace(config(), denoiser=dataclasses.replace(DIT, num_layers=3))
    with pytest.raises(InputError, match=r"missing \(blocks\.2\."):
        load_denoiser(path, deeper)


# --- other kinds of Wan --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ("img_emb.proj.0.weight", "image-to-video"),
        ("blocks.0.cross_attn.k_img.weight", "image-to-video"),
        ("vace_blocks.0.before_proj.weight", "VACE"),
        ("casual_audio_encoder.encoder.final_linear.weight", "S2V"),
        ("audio_proj.audio_proj_glob_1.layer.bias", "HuMo"),
        ("audio_proj.proj1.weight", "MultiTalk"),
        ("face_adapter.fuser_blocks.0.k_norm.weight", "Animate"),
        ("control_adapter.conv.weight", "camera"),
        ("ref_conv.weight", "Fun control"),
        ("patch_embedding_pose.weight", "SCAIL"),
        ("patch_embedding_global.weight", "WanDancer"),
    ],
)
def test_other_wans_are_refused_by_name(wan, tmp_path, extra, says):
    for wrapper in ("", "model.diffusion_model."):
        tensors = {wrapper + k: v for k, v in (wan | {extra: torch.ones(2, 2)}).items()}
        with pytest.raises(InputError, match=f"Wan DiT for.*{says}"):
            load_denoiser(save(tmp_path / "x.safetensors", tensors), config())


def test_more_channels_in_than_out_and_what_is_no_wan(wan, tmp_path):
    path = tmp_path / "x.safetensors"
    more = wan | {"patch_embedding.weight": torch.ones(128, 36, 1, 2, 2)}
    with pytest.raises(InputError, match="36 channels in, 16 out"):
        load_denoiser(save(path, more), config())
    with pytest.raises(InputError, match="holds no Wan DiT"):
        load_denoiser(save(path, {"double_blocks.0.img_attn.qkv.weight": torch.ones(2)}), config())
    with pytest.raises(InputError, match="two spellings"):
        load_denoiser(save(path, wan | {"proj_out.bias": wan["head.head.bias"]}), config())
    with pytest.raises(InputError, match="unknown tensor name"):
        load_denoiser(save(path, wan | {"blocks.0.colour": torch.ones(2)}), config())
    with open_weights(save(path, {k: v for k, v in wan.items() if "head.head" not in k})) as file:
        with pytest.raises(InputError, match="incomplete Wan DiT"):
            dit_config(file)


def test_names():
    assert denoiser_name("model.diffusion_model.head.modulation") == "scale_shift_table"
    assert denoiser_name("blocks.1.attn1.to_q.weight") == "blocks.1.attn1.to_q.weight"
