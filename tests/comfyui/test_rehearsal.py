"""Rehearsal on a real host: one small model in the layouts that artists have, each sampled by the host.

The files lie in the host's model folders as an artist puts them there. All hold the same bf16 numbers, so graphs must
give the same picture whichever loader reads them; fp8 is near. tests/formats/test_rehearsal.py: the command line.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from instructx_core.config import kiwi_5b
from instructx_core.formats.containers.opening import open_source
from instructx_core.formats.containers.quantised import dequantised
from instructx_core.formats.convert import convert
from instructx_core.formats.forms.request import Options

NAME = "instructx_kiwi_small.safetensors"
OWN = "from the checkpoint"


def lay_out_parts(small: Any, models: Path) -> None:
    for folder in ("diffusion_models", "vae", "text_encoders", "model_patches"):
        (models / folder).mkdir(parents=True, exist_ok=True)
        shutil.copy(small.root / folder / NAME, models / folder)
    shutil.copy(small.files.tokenizer, models)
    small.training_file(models / "checkpoints" / "kiwi_stage3.safetensors")


def lay_out(small: Any, models: Path) -> None:
    """Everything of `small` into a models folder: parts, a Kiwi-Edit training file and folder, a slim DiT."""
    lay_out_parts(small, models)
    small.kiwi_folder(models / "diffusers" / "kiwi-edit-5b")
    convert(models / "diffusion_models" / NAME, models / "diffusion_models" / "slim.safetensors", "fp8")


def graph(loaders: dict[str, Any], model: list[Any], encoder: list[Any], reference: bool = True) -> dict[str, Any]:
    """The edit of source.png in two steps, in API format."""
    wired = {"reference_1": ["reference", 0]} if reference else {}
    nodes = {
        **loaders,
        "source": ("LoadImage", {"image": "source.png"}),
        "reference": ("LoadImage", {"image": "reference.png"}),
        "vae": ("VAELoader", {"vae_name": NAME}),
        "queries": ("InstructXQueryEmbeddings", {
            "encoder": encoder, "instruction": "make it blue", "source": ["source", 0], "modality": "auto",
            "drop_instruction": False, "fps": 0.0, **wired}),
        "connector": ("InstructXConnector", {"queries": ["queries", 0]}),
        "edit": ("InstructXSourceReference", {
            "model": model, "positive": ["connector", 0], "vae": ["vae", 0], "source": ["source", 0], "resize": "crop",
            "length": "pad", **wired}),
        "sample": ("KSampler", {
            "model": ["edit", 0], "positive": ["edit", 1], "negative": ["edit", 2], "latent_image": ["edit", 3],
            "seed": 1, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}),
        "decode": ("VAEDecode", {"samples": ["sample", 0], "vae": ["vae", 0]}),
        "save": ("PreviewImage", {"images": ["decode", 0]}),
    }  # fmt: skip
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}


def native(denoiser: str = NAME, encoder: str = NAME, lora: str = "", reference: bool = True) -> dict[str, Any]:
    """Load Diffusion Model (a .gguf: ComfyUI-GGUF's loader), a LoRA at 0.5 behind it, and Load Encoder."""
    unet = ("UNETLoader", {"unet_name": denoiser, "weight_dtype": "default"})
    loaders = {
        "unet": ("UnetLoaderGGUF", {"unet_name": denoiser}) if denoiser.endswith(".gguf") else unet,
        "encoder": ("InstructXLoadEncoder", {"encoder": encoder, "adapter": NAME, "dtype": "fp32", "device": "auto"}),
    }
    if lora:
        inputs = {"model": ["unet", 0], "lora_name": lora, "strength_model": 0.5}
        loaders["lora"] = ("LoraLoaderModelOnly", inputs)
    return graph(loaders, ["lora" if lora else "unet", 0], ["encoder", 0], reference)


def checkpoint(name: str, encoder: str = NAME, reference: bool = True, position: str = "auto") -> dict[str, Any]:
    inputs = {"checkpoint": name, "encoder": encoder, "reference_position": position, "dtype": "fp32", "device": "auto"}
    return graph({"load": ("InstructXLoadCheckpoint", inputs)}, ["load", 0], ["load", 1], reference)


@pytest.fixture(scope="module")
def kinds(load_helper: Any) -> Any:
    """tests/formats/models.py: layouts of one small model."""
    return load_helper("instructx_test_models", "formats/models.py")


@pytest.fixture(scope="module")
def files(load_helper: Any) -> Any:
    """tests/formats/small.py: quantised files."""
    return load_helper("instructx_test_format_files", "formats/small.py")


@pytest.fixture(scope="module")
def pack_of_gguf() -> Path | None:
    """A checkout of ComfyUI-GGUF, where the environment names one."""
    given = os.environ.get("COMFYUI_GGUF_PATH")
    return Path(given) if given else None


@pytest.fixture(scope="module")
def rehearsal(boot: Any, kinds: Any, load_helper: Any, pack_of_gguf: Any, tmp_path_factory: Any) -> Any:
    """host, models (its folder), small, run(graph) -> the picture, and want, the picture of the plain files."""
    small = kinds.Small(
        tmp_path_factory.mktemp("small") / "model", load_helper("instructx_test_tiny", "support/tiny.py")
    )
    host = boot(files=(pack_of_gguf,) if pack_of_gguf else ())
    lay_out(small, host.base / "models")
    run = ready(host)
    return SimpleNamespace(host=host, models=host.base / "models", small=small, run=run, want=run(native()))


def ready(host: Any) -> Any:
    """Inputs into a running host; a function from graph to picture."""
    rng = np.random.default_rng(0)
    for name, side in (("source", 64), ("reference", 48)):
        host.put_input(f"{name}.png", rng.integers(0, 256, (side, side, 3), np.uint8))

    def run(wanted: dict[str, Any]) -> np.ndarray:
        return host.pictures(host.run(wanted))[0]

    return run


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of two pictures, of 255."""
    return float(np.abs(one.astype(float) - other).mean())


def test_every_layout_gives_the_same_picture(rehearsal: Any) -> None:
    run, want = rehearsal.run, rehearsal.want
    assert want.std() > 5
    assert np.array_equal(run(checkpoint("kiwi_stage3.safetensors")), want), "training file"
    folder = run(checkpoint("kiwi-edit-5b", OWN))
    assert apart(folder, want) < 1, "folder: its LoRA was merged in bf16"
    slim = run(native("slim.safetensors"))
    assert 0 < apart(slim, want) < 8, "fp8_scaled as `convert` writes it"
    log = rehearsal.host.log()
    assert (
        "kiwi_stage3.safetensors: Wan DiT" in log and "Qwen2.5-VL of no public size, BF16; 56 tensors consumed" in log
    )
    assert "Kiwi-Edit's checkpoints state no licence" in log


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model."])
def test_wrapped_names(rehearsal: Any, kinds: Any, prefix: str) -> None:
    state = {prefix + key: value for key, value in rehearsal.small.dit.items()}
    kinds.put(rehearsal.models / "diffusion_models" / "wrapped.safetensors", state)
    assert np.array_equal(rehearsal.run(native("wrapped.safetensors")), rehearsal.want)


PACKED = ("fp8", "fp8_scaled old", "fp8_scaled metadata", "fp8_scaled new", "int8")  # GGUF: test_gguf.py


@pytest.mark.parametrize("kind", PACKED)
def test_quantised_dits(rehearsal: Any, kinds: Any, files: Any, kind: str) -> None:
    """The picture is that of an fp32 file with the same numbers, and near that of the bf16 file."""
    mark = {"fp8_scaled new": ".comfy_quant", "int8": "int8_tensorwise"}.get(kind, "")
    if mark not in "".join((rehearsal.host.tree / "comfy" / name).read_text() for name in ("utils.py", "ops.py")):
        pytest.skip(f"this ComfyUI is too old for {mark}")
    folder = rehearsal.models / "diffusion_models"
    file, values = files.packed(folder / kind.replace(" ", "_"), kind, rehearsal.small.dit)
    plain = kinds.put(folder / f"plain_{file.stem}.safetensors", values)
    got, same = (rehearsal.run(native(path.name)) for path in (file, plain))
    print(f"{kind}: {apart(got, same):.3f} from its numbers in fp32, {apart(got, rehearsal.want):.3f} from bf16")
    assert apart(got, same) < (1 if kind == "int8" else 0.1), "int8: the host rounds what goes into a layer as well"
    assert 0 < apart(got, rehearsal.want) < 4


def test_gguf_of_the_packs_own_converter(rehearsal: Any, files: Any, pack_of_gguf: Any, tmp_path: Path) -> None:
    """Its convert.py leaves the patch embedding beside the file, for a second tool (broken by numpy 2) to put back."""
    if pack_of_gguf is None:
        pytest.skip("COMFYUI_GGUF_PATH is not set: needs a checkout of ComfyUI-GGUF")
    import gguf

    command = [sys.executable, str(pack_of_gguf / "tools" / "convert.py"), "--src", str(rehearsal.small.files.denoiser)]
    subprocess.run([*command, "--dst", str(tmp_path / "raw.gguf")], cwd=tmp_path, check=True, capture_output=True)
    tensors = {
        entry.name: (entry.tensor_type.name, entry.data) for entry in gguf.GGUFReader(tmp_path / "raw.gguf").tensors
    }
    beside = load_file(tmp_path / "fix_5d_tensors_wan.safetensors")
    tensors |= {name: ("F32", value.numpy()) for name, value in beside.items()}
    path = files.write_gguf(rehearsal.models / "diffusion_models" / "own.gguf", tensors)
    got = rehearsal.run(native(path.name))
    assert apart(got, rehearsal.want) < 0.1
    with dequantised(open_source(path)) as source:
        assert source.keys() and all(
            torch.equal(source.get(key).bfloat16(), value) for key, value in rehearsal.small.dit.items()
        )


def test_lora_through_the_native_loader(rehearsal: Any, kinds: Any) -> None:
    """ComfyUI's and musubi's names: the picture of a file into which `convert` merged the LoRA. (The native loader
    leaves PEFT's names out, with a line in its log.)"""
    folder, lora = rehearsal.models / "loras", kinds.dit_lora(rehearsal.small.dit)
    merged = rehearsal.models / "diffusion_models" / "merged.safetensors"
    for spelling in ("comfyui", "musubi"):
        file = kinds.put(folder / f"{spelling}.safetensors", kinds.spelled(lora, spelling))
        if not merged.exists():
            convert(rehearsal.small.files.denoiser, merged, "merged", Options(lora=file, strength=0.5))
        got, want = rehearsal.run(native(lora=file.name)), rehearsal.run(native(merged.name))
        assert apart(got, want) < 0.1 and apart(want, rehearsal.want) > 1, spelling


def test_the_three_public_folders(rehearsal: Any) -> None:
    """Instruct and reference: above. Reference only: its references stand first. Instruct only: it has none."""
    small, run, folder = rehearsal.small, rehearsal.run, rehearsal.models / "diffusers"
    small.kiwi_folder(folder / "reference-only", first=True)
    moved = run(checkpoint("reference-only", OWN))
    assert np.array_equal(moved, run(checkpoint("kiwi-edit-5b", OWN, position="first")))
    assert not np.array_equal(moved, run(checkpoint("kiwi-edit-5b", OWN)))
    small.kiwi_folder(folder / "instruct-only", stage=2)
    alone, both = (run(checkpoint(name, OWN, reference=False)) for name in ("instruct-only", "kiwi-edit-5b"))
    assert np.array_equal(alone, both)


def test_qwen_in_shards_and_fp8(rehearsal: Any, kinds: Any, files: Any) -> None:
    small, folder = rehearsal.small, rehearsal.models / "text_encoders"
    hub = small.hub_qwen(folder / "Qwen2.5-VL-3B-Instruct", newer=True)
    shutil.copy(small.files.tokenizer, hub / "tokenizer.json")
    assert np.array_equal(rehearsal.run(native(encoder="Qwen2.5-VL-3B-Instruct")), rehearsal.want)
    for kind in ("fp8", "fp8_scaled old", "fp8_scaled new"):
        file, values = files.packed(folder / kind.replace(" ", "_"), kind, small.qwen)
        plain = kinds.put(folder / f"plain_{file.stem}.safetensors", values)
        got, same = (rehearsal.run(native(encoder=path.name)) for path in (file, plain))
        assert np.array_equal(got, same) and not np.array_equal(got, rehearsal.want), kind


def test_qwen_as_llama_cpp_stores_it(rehearsal: Any, files: Any) -> None:
    """Chosen from the list of Load Encoder; its mmproj file lies beside it."""
    qwen = files.llama_cpp_pair(rehearsal.models / "text_encoders" / "llama", rehearsal.small.qwen, "BF16")
    shutil.copy(rehearsal.small.files.tokenizer, qwen.with_name("tokenizer.json"))
    assert np.array_equal(rehearsal.run(native(encoder=os.path.join("llama", qwen.name))), rehearsal.want)


def test_training_files_of_stage_1_and_2(rehearsal: Any) -> None:
    """Stage 2 edits as stage 3 does without a reference, and refuses one. Stage 1 has no DiT, and says so."""
    small, folder = rehearsal.small, rehearsal.models / "checkpoints"
    small.training_file(folder / "stage2.safetensors", stage=2)
    small.training_file(folder / "stage1.safetensors", stage=1, dit="none")
    want = rehearsal.run(native(reference=False))
    assert np.array_equal(rehearsal.run(checkpoint("stage2.safetensors", reference=False)), want)
    assert "stage2 takes no reference" in rehearsal.host.fails(checkpoint("stage2.safetensors"))
    assert "stage1.safetensors holds no DiT" in rehearsal.host.fails(checkpoint("stage1.safetensors", reference=False))


def test_kiwi_14b_layout(rehearsal: Any) -> None:
    """A training file with a LoRA of the DiT has no DiT for the host; `convert` merges it into the base for one."""
    small, models = rehearsal.small, rehearsal.models
    file = small.training_file(models / "checkpoints" / "kiwi_14b.safetensors", dit="lora")
    assert "kiwi_14b.safetensors holds no DiT" in rehearsal.host.fails(checkpoint(file.name))
    convert(small.files.denoiser, models / "diffusion_models" / "kiwi_14b.safetensors", "merged", Options(lora=file))
    assert apart(rehearsal.run(native(file.name)), rehearsal.want) > 1


def test_wan22_of_48_channels(boot: Any, kinds: Any, load_helper: Any, tmp_path_factory: Any) -> None:
    """The layout of the public 5B model. The host builds the VAE of Wan2.2 in its own widths only: 1.4 GB of it."""
    config = dataclasses.replace(kinds.small_kiwi(48), vae=kiwi_5b().vae)
    root = tmp_path_factory.mktemp("wan22") / "model"
    small = kinds.Small(root, load_helper("instructx_test_tiny", "support/tiny.py"), config)
    host = boot()
    lay_out_parts(small, host.base / "models")
    run = ready(host)
    want = run(native())
    assert want.shape == (64, 64, 3) and want.std() > 5
    assert np.array_equal(run(checkpoint("kiwi_stage3.safetensors")), want)
    host.stop()  # it holds as much memory again
    shutil.rmtree(host.base / "models")
    shutil.rmtree(root)
