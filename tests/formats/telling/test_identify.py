"""identify on headers with the real names, shapes and types of the public files: what they are, need, and fit into.

The files are sparse: nothing of them is ever read but the header.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from instructx_core.cli import main
from instructx_core.errors import InputError
from instructx_core.formats.telling.identify import identify


@pytest.fixture(scope="session")
def real(load_helper) -> ModuleType:
    return load_helper("instructx_test_real", "formats/real.py")


@pytest.fixture
def put(load_helper, tmp_path: Path):
    sparse = load_helper("instructx_test_sparse", "formats/sparse.py")
    return lambda name, entries, metadata=None: sparse.sparse_file(tmp_path / name, entries, metadata)


@pytest.mark.parametrize(
    ("size", "count", "title", "vae"),
    [
        ("1.3B", 825, "Wan DiT 2.1 T2V-1.3B", "wan_2.1_vae"),
        ("14B", 1095, "Wan DiT 2.1 T2V-14B, or a half of 2.2 T2V-A14B, whose header is the same", "wan_2.1_vae"),
        ("5B", 825, "Wan DiT 2.2 TI2V-5B", "wan2.2_vae"),
    ],
)
@pytest.mark.parametrize("layout", ["original", "diffusers", "wrapped"])
def test_dit(real, put, size: str, count: int, title: str, vae: str, layout: str) -> None:
    entries = real.dit(size, diffusers=layout == "diffusers")
    if layout == "wrapped":
        entries = {f"model.diffusion_model.{key}": value for key, value in entries.items()}
    found = identify(put("dit.safetensors", entries))
    assert (found.kind, found.title, found.values["tensors"]) == ("wan-dit", title, count)
    assert found.values["layout"] == ("diffusers" if layout == "diffusers" else "original")
    assert dict(found.facts)["numbers"] == "BF16" and vae in found.needs[0]
    assert ("--to original" in found.taken_by[0]) == (layout == "diffusers")


def quantise(entries, scale: str, extra=None):
    """fp8 for every matrix of the blocks, with a scale tensor beside each where `scale` is given."""
    out = dict(extra or {})
    for key, (kind, shape) in entries.items():
        matrix = key.startswith("blocks.") and len(shape) == 2
        out[key] = ("F8_E4M3" if matrix else kind, shape)
        if matrix and scale:
            out[key.removesuffix(".weight") + scale] = ("F32", ())
    return out


def declared(name: str) -> dict[str, str]:
    return {"_quantization_metadata": json.dumps({"layers": {"blocks.0.ffn.0": {"format": name}}})}


def test_quantised_dits(real, put) -> None:
    plain = real.dit("5B", "F16")
    packed = plain | {"blocks.0.ffn.0.weight": ("U8", (14336, 1536))}
    cases = {
        "fp8 (": (quantise(plain, ""), None),
        "fp8_scaled (F16 525, F8_E4M3 300": (quantise(plain, ".scale_weight", {"scaled_fp8": ("F8_E4M3", (2,))}), None),
        "fp8_scaled (": (quantise(plain, ".weight_scale"), declared("float8_e4m3fn")),
        "nvfp4 (": (packed, declared("nvfp4")),
    }
    for number, (begin, (entries, metadata)) in enumerate(cases.items()):
        found = identify(put(f"{number}.safetensors", entries, metadata))
        assert found.kind == "wan-dit" and "2.2 TI2V-5B" in found.title
        assert dict(found.facts)["numbers"].startswith(begin)
        assert any("cannot read" in line for line in found.taken_by) == (begin == "nvfp4 (")


def test_other_wans_are_named_and_taken_by_nothing(real, put) -> None:
    plain = real.dit("14B")
    wide = {**plain, "patch_embedding.weight": ("BF16", (5120, 36, 1, 2, 2))}
    for name, entries, words in (
        ("i2v", {**wide, "img_emb.proj.0.weight": ("BF16", (1280,))}, "image-to-video"),
        ("i2v22", wide, "image-to-video or control"),
        ("vace", {**plain, "vace_blocks.0.norm3.weight": ("BF16", (5120,))}, "VACE"),
    ):
        found = identify(put(f"{name}.safetensors", entries))
        assert (found.kind, found.taken_by) == ("wan-dit-variant", ()) and words in found.title, found.title


@pytest.mark.parametrize(("size", "version", "channels", "count"), [("14B", "2.1", 16, 194), ("5B", "2.2", 48, 196)])
@pytest.mark.parametrize("diffusers", [False, True])
def test_vae(real, put, size: str, version: str, channels: int, count: int, diffusers: bool) -> None:
    found = identify(put("vae.safetensors", real.vae(size, diffusers=diffusers)))
    assert (found.kind, found.title) == ("wan-vae", f"Wan VAE {version}")
    assert found.values["channels"] == channels and found.values["tensors"] == count
    assert ("Load VAE" in found.taken_by[0]) != diffusers


def test_qwen(real, put) -> None:
    for newer in (False, True):
        found = identify(put("qwen.safetensors", real.qwen("F16", newer=newer)))
        assert found.kind == "qwen2.5-vl" and found.title == "Qwen2.5-VL 3B" and "Load Encoder" in found.taken_by[0]
    blind = identify(put("blind.safetensors", real.qwen("F16", vision=False)))
    assert (blind.kind, blind.taken_by) == ("qwen-text", ()) and "vision tower" in blind.title
    large = identify(put("large.safetensors", real.qwen("F16", width=3584, layers=28)))
    assert (large.kind, large.title) == ("qwen-other", "Qwen2.5-VL 7B: the adapters need 3B")


@pytest.mark.parametrize(("stage", "count", "tensors"), [(1, 1, 293), (2, 2, 1121), (3, 3, 1128)])
@pytest.mark.parametrize("prefix", ["", "pipe."])
def test_kiwi_training_file(real, put, stage: int, count: int, tensors: int, prefix: str) -> None:
    entries = {prefix + key: value for key, value in real.kiwi_training(stage).items()}
    found = identify(put("stage_pad_first.safetensors", entries))
    assert found.title == f"Kiwi-Edit training file, stage {stage}" and found.values["tensors"] == tensors
    assert len(found.values["queries"]) == count and found.values["dim"] == 3072 and found.values["reference_first"]
    assert found.values["dit"] == ("none" if stage == 1 else "full")
    assert dict(found.facts)["MLLM LoRA"] == "rank 64 on 144 layers"
    assert any("Load Checkpoint" in line for line in found.taken_by) == (stage > 1)


def test_kiwi_14b_is_a_lora_on_the_dit(real, put) -> None:
    found = identify(put("kiwi.safetensors", real.kiwi_training(3, "14B")))
    assert (found.values["dit"], found.values["dim"], found.values["queries"]["reference"]) == ("lora", 5120, 384)
    assert "rank 128 on 400 layers (800 tensors)" in dict(found.facts)["holds"]
    assert dict(found.facts)["MLLM LoRA"] == "rank 256 on 252 layers"
    assert any("width 5120" in line for line in found.needs) and "wan_2.1_vae" in found.needs[1]


def test_dit_lora_in_every_naming(real, put) -> None:
    peft = {key.replace(".default", ""): value for key, value in real.dit_lora("14B", 64).items()}
    musubi = {}
    for key, value in peft.items():
        stem, _, half = key.removesuffix(".weight").rpartition(".lora_")
        musubi[f"lora_unet_{stem.replace('.', '_')}.lora_{ {'A': 'down', 'B': 'up'}[half] }.weight"] = value
    cases = {
        "PEFT": peft,
        "ComfyUI": {f"diffusion_model.{key}": value for key, value in peft.items()},
        "musubi": musubi,
    }
    for naming, entries in cases.items():
        found = identify(put(f"{naming}.safetensors", entries))
        assert found.kind == "dit-lora" and found.values["naming"].startswith(naming), found.lines()
        assert (found.values["rank"], found.values["layers"], found.values["dim"]) == (64, 400, 5120)
        assert "T2V-14B" in found.title and not found.values["distilled"]
    name = "lightx2v_T2V_14B_cfg_step_distill_v2_lora_rank64_bf16.safetensors"
    found = identify(put(name, cases["ComfyUI"]))
    assert found.values["distilled"] and "self-attention and FFN only" in dict(found.facts)["use"]


def test_what_is_not_needed_is_named(put) -> None:
    one = ("F16", (4, 4))
    cases = {
        "encoder.block.0.layer.0.SelfAttention.k.weight": ("t5", "T5"),
        "text_model.encoder.layers.0.mlp.fc1.weight": ("clip", "CLIP"),
        "double_blocks.0.img_attn.qkv.weight": ("dit-other", "FLUX"),
        "model.diffusion_model.input_blocks.0.0.weight": ("dit-other", "Stable Diffusion"),
        "decoder.up.0.block.0.norm1.weight": ("vae-other", "no Wan VAE"),
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": ("lora-other", "Qwen"),
        "who.knows": ("unknown", "no kind"),
    }
    for key, (kind, words) in cases.items():
        found = identify(put("x.safetensors", {key: one}))
        assert (found.kind, found.taken_by) == (kind, ()) and words in found.title, found.lines()


def test_folders(real, put, shipped: Path, tmp_path: Path) -> None:
    models = identify(shipped)
    assert models.kind == "models-folder" and models.values["files"] == dict.fromkeys(models.values["files"], 1)
    assert {identify(file).kind for file in shipped.glob("*/*.safetensors")} == {
        "wan-dit",
        "wan-vae",
        "qwen2.5-vl",
        "adapter",
    }
    parts = {
        "transformer": real.dit("5B", diffusers=True),
        "vae": real.vae("5B"),
        "source_embedder": {"patch_embedding.weight": ("BF16", (3072, 48, 1, 2, 2))},
        "mllm_encoder": {"video_queries": ("BF16", (512, 2048)), "connector.2.weight": ("BF16", (3072, 3072))},
    }
    for name, entries in parts.items():
        put(f"kiwi/{name}/diffusion_pytorch_model.safetensors", entries)
    kiwi = identify(tmp_path / "kiwi")
    assert kiwi.kind == "kiwi-folder" and kiwi.values["queries"] == {"video": 512} and kiwi.values["dim"] == 3072
    assert dict(kiwi.facts)["ref_embedder"] == "missing" and dict(kiwi.facts)["transformer"] == "Wan DiT 2.2 TI2V-5B"
    with pytest.raises(InputError, match="no file"):
        identify(tmp_path / "absent.safetensors")


def test_command_fits_a_screen_and_speaks_json(real, put, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(put("a.safetensors", real.kiwi_training(3))), str(put("b.safetensors", real.dit("14B")))]
    assert main(["inspect", files[0]]) == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) <= 20 and "stage 3" in text and "taken by" in text
    assert main(["inspect", *files, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [entry["kind"] for entry in said] == ["kiwi-training", "wan-dit"] and said[1]["dim"] == 5120
    assert main(["inspect", "absent.safetensors"]) == 2
