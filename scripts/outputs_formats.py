"""Outputs on weight files: a small random model in every public layout, inspected, converted, loaded and verified.

Part of scripts/outputs.py, which calls record_formats. Helper modules of the tests make the files; they are found below
tests/ by their names: models.py, small.py, tiny.py, real.py, sparse.py.
"""

from __future__ import annotations

import functools
import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from outputs import ROOT, Record, command, preload
from outputs_edits import drawn, write_clip
from PIL import Image

# --- helper modules of the tests -----------------------------------------------------------------------------------


@functools.cache
def helper(file: str) -> ModuleType:
    """A module of tests/ by its file name; modules beside it can be imported by it."""
    found = sorted((ROOT / "tests").rglob(file))
    if len(found) != 1:
        raise SystemExit(f"tests/ holds {len(found)} files {file}; change the name in {__file__}")
    path = found[0]
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small_model(folder: Path, channels: int = 16) -> Any:
    """A random model of Kiwi-Edit's kind (tests: models.py) and writers of its layouts. 48 channels: the 5B's VAE."""
    models = helper("models.py")
    return models.Small(folder / "model", helper("tiny.py"), models.small_kiwi(channels))


# --- formats -------------------------------------------------------------------------------------------------------


def record_formats(record: Record, folder: Path) -> None:
    preload()
    for name, channels in (("small", 16), ("wide", 48)):
        place = folder / name
        place.mkdir()
        small = small_model(place, channels)
        files = write_layouts(small, place)
        record_inspected(record, name, place, files)
        record_converted(record, name, small, place)
        record_loaded(record, name, small, place)
    record_verified(record, folder)


def write_layouts(small: Any, place: Path) -> list[str]:
    """The layouts in which people have such a model; their paths in `place`."""
    models, files = helper("models.py"), helper("small.py")
    for kind in files.PACKED:
        files.packed(place / kind.replace(" ", "_"), kind, small.dit)
        if kind.startswith("fp8"):
            files.packed(place / f"qwen_{kind.replace(' ', '_')}", kind, small.qwen)
    for kind in ("F32", "BF16", "Q8_0"):
        shutil.copy(small.files.tokenizer, files.llama_cpp_pair(place / f"llama_{kind}", small.qwen, kind).parent)
    small.diffusers_dit(place / "dit")
    small.diffusers_dit(place / "dit_shards", sharded=True)
    small.diffusers_vae(place / "vae")
    models.shards(place / "original_shards", small.dit)
    models.put(place / "wrapped.safetensors", {f"model.diffusion_model.{key}": t for key, t in small.dit.items()})
    for name, options in (("hub", {}), ("hub_new", {"newer": True}), ("hub_merged", {"merged": True})):
        shutil.copy(small.files.tokenizer, small.hub_qwen(place / name, **options))
    for stage, dit in ((1, "none"), (2, "whole"), (3, "whole"), (3, "lora"), (3, "none")):
        small.training_file(place / f"stage{stage}_{dit}.safetensors", stage, dit)
    for name, options in (("kiwi", {}), ("kiwi_first", {"first": True}), ("kiwi_instruct", {"stage": 2})):
        small.kiwi_folder(place / name, **options)
    lora = models.dit_lora(small.dit)
    for spelling in models.LORAS:
        models.put(place / f"lora_{spelling}.safetensors", models.spelled(lora, spelling))
    (place / "cut.safetensors").write_bytes((place / "fp8.safetensors").read_bytes()[:5000])
    (place / "text.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (place / "pickled.pt").write_bytes(b"\x80\x02}q\x00.")
    return sorted(path.name for path in place.iterdir())


def record_inspected(record: Record, name: str, place: Path, files: list[str]) -> None:
    parts = [f"model/{path.relative_to(place / 'model')}" for path in sorted((place / "model").rglob("*.*"))]
    for file in [*files, *parts, "none.safetensors", "llama_Q8_0/qwen.gguf", "llama_Q8_0/mmproj-qwen.gguf"]:
        record.add_text(f"{name}: inspect {file}", command(place, "inspect", file))
    good = [file for file in files if not file.startswith(("cut", "text", "pickled", "llama"))]
    record.add_text(f"{name}: inspect --json", command(place, "inspect", "--json", *good))


CONVERTED = {
    "dit": "DIT --to diffusers",
    "dit back": "dit --to original",
    "shards back": "dit_shards --to original",
    "original shards": "original_shards --to original",
    "wrapped": "wrapped.safetensors --to original",
    "slim": "DIT --to fp8",
    "slim qwen": "QWEN --to fp8",
    "slim of shards": "dit_shards --to fp8",
    "fp8": "fp8.safetensors --to original",
    "fp8_scaled old": "fp8_scaled_old.safetensors --to original",
    "fp8_scaled new": "fp8_scaled_new.safetensors --to original",
    "int8": "int8.safetensors --to original",
    "fp8_scaled metadata": "fp8_scaled_metadata.safetensors --to original",
    "gguf 8": "Q8_0.gguf --to original",
    "gguf 4": "Q4_0.gguf --to diffusers",
    "vae": "VAE --to diffusers",
    "vae back": "vae --to original",
    "kiwi dit": "stage3_whole.safetensors --to original",
    "kiwi folder dit": "kiwi --to original",
    "kiwi dit diffusers": "stage2_whole.safetensors --to diffusers",
    "kiwi slim": "stage3_whole.safetensors --to fp8",
    "adapter": "stage3_whole.safetensors --to adapter --encoder QWEN --vae VAE",
    "adapter, usual parts": "stage3_whole.safetensors --to adapter",
    "adapter without LoRA": "stage3_none.safetensors --to adapter --encoder QWEN --vae VAE --without-lora",
    "adapter 1": "stage1_none.safetensors --to adapter --encoder QWEN --vae VAE",
    "adapter 2": "stage2_whole.safetensors --to adapter --encoder QWEN --vae VAE",
    "adapter of folder": "kiwi --to adapter",
    "adapter of first": "kiwi_first --to adapter",
    "adapter of instruct": "kiwi_instruct --to adapter",
    "merged": "DIT --to merged --lora lora_peft.safetensors --strength 0.5",
    "merged comfyui": "DIT --to merged --lora lora_comfyui.safetensors",
    "merged musubi self": "DIT --to merged --lora lora_musubi.safetensors --layers self",
    "merged training": "DIT --to merged --lora stage3_lora.safetensors",
    "merged fp8": "fp8_scaled_new.safetensors --to merged --lora lora_peft.safetensors",
    "merged qwen": "QWEN --to merged --lora ADAPTER",
    "merged qwen shards": "hub_new --to merged --lora ADAPTER",
    "refused: cut": "cut.safetensors --to original",
    "refused: pickle": "pickled.pt --to original",
    "refused: no LoRA": "DIT --to merged",
    "refused: LoRA of another": "VAE --to merged --lora lora_peft.safetensors",
    "refused: LoRA alone": "lora_peft.safetensors --to original",
    "refused: no DiT": "stage3_none.safetensors --to original",
}


def record_converted(record: Record, name: str, small: Any, place: Path) -> None:
    files = {
        "DIT": small.files.denoiser,
        "VAE": small.files.vae,
        "QWEN": small.files.text_encoder,
        "ADAPTER": small.files.adapter,
    }
    for case, line in CONVERTED.items():
        words = [str(files[word].relative_to(place)) if word in files else word for word in line.split()]
        target = "out" if words[2] == "diffusers" else "out.safetensors"
        record.add_text(f"{name}: convert {case}", command(place, "convert", words[0], target, *words[1:]))
        written = place / target
        parts = [written] if written.is_file() else sorted(written.rglob("*.*"))
        for part in parts:
            label = f"{name}: converted {case} {part.relative_to(place)}"
            if part.suffix == ".safetensors":
                record.add_file(label, part)
            else:
                record.add_text(label, part.read_text(encoding="utf-8"))
        if case == "dit":
            record.add_text(f"{name}: convert twice", command(place, "convert", words[0], target, *words[1:]))
        shutil.rmtree(written, ignore_errors=True)
        (place / "out.safetensors").unlink(missing_ok=True)


LOADED = {
    "own layout": "--model model",
    "own layout, bfloat16": "--model model --dtype bfloat16",
    "training file": "--model stage3_whole.safetensors VAE HUB",
    "folder": "--model kiwi",
    "first": "--model kiwi_first",
    "instruct": "--model kiwi_instruct",
    "stage 2": "--model stage2_whole.safetensors VAE HUB",
    "diffusers": "--model ADAPTER --part denoiser=dit --part vae=vae HUB",
    "lora file": "--model stage3_lora.safetensors --part denoiser=DIT VAE HUB",
    "lora": "--model model --lora lora_musubi.safetensors:0.5 --lora lora_peft.safetensors",
    "fp8": "--model ADAPTER --part denoiser=fp8_scaled_new.safetensors VAE HUB",
    "int8": "--model ADAPTER --part denoiser=int8.safetensors VAE HUB",
    "gguf": "--model ADAPTER --part denoiser=Q4_0.gguf VAE HUB",
    "qwen fp8": "--model ADAPTER --part denoiser=DIT VAE --part text_encoder=qwen_fp8_scaled_old.safetensors TOKENIZER",
    "llama.cpp": "--model ADAPTER --part denoiser=DIT VAE --part text_encoder=llama_Q8_0/qwen.gguf TOKENIZER",
}


def record_loaded(record: Record, name: str, small: Any, place: Path) -> None:
    """Loaded from each layout, and what was said of the files; one picture and one clip with a reference each."""
    Image.fromarray(drawn()).save(place / "image.png")
    Image.fromarray(drawn(48, 48, 9, 1)).save(place / "other.png")
    write_clip(place / "clip.mp4", [drawn(time=i) for i in range(5)], 16)
    given = {
        part: getattr(small.files, part).relative_to(place) for part in ("denoiser", "vae", "adapter", "tokenizer")
    }
    words = {
        "VAE": f"--part vae={given['vae']}",
        "HUB": "--part text_encoder=hub",
        "ADAPTER": f"{given['adapter']}",
        "TOKENIZER": f"--part tokenizer={given['tokenizer']}",
    }
    for case, line in LOADED.items():
        for word, text in words.items():
            line = line.replace(word, text)
        options = line.replace("=DIT", f"={given['denoiser']}").split()
        plain_only = case in ("instruct", "stage 2")
        for source, output in (("image.png", "a.png"), ("clip.mp4", "a.mp4")):
            reference = [] if plain_only else ["--reference", "other.png"]
            files = ["--input", source, "--output", output, *reference, "--device", "cpu", "--steps", "2"]
            report = command(place, "edit", *files, "--instruction", "make it blue", *options)
            record.add_text(f"{name}: loaded, {case}, {output}: report", report)
            if (place / output).exists():
                record.add_file(f"{name}: loaded, {case}, {output}", place / output)
                (place / output).unlink()


def record_verified(record: Record, folder: Path) -> None:
    """Whole and broken folders; names and shapes of the public files without data (tests: real.py, sparse.py)."""
    for name in ("small", "wide"):
        for place in ("model", "kiwi", "kiwi_first", "."):
            record.add_text(f"{name}: verify {place}", command(folder / name, "verify", place))
        record.add_text(f"{name}: verify --full --run", command(folder / name, "verify", "model", "--full", "--run"))
        record.add_text(
            f"{name}: verify kiwi --run", command(folder / name, "verify", "kiwi", "--run", "--device", "cpu")
        )
    real, sparse = helper("real.py"), helper("sparse.py")
    entries = {
        "diffusion_models/wan2.2_ti2v_5B_fp16": real.dit("5B", "F16"),
        "diffusion_models/wan2.1_14B": real.dit("14B"),
        "vae/wan2.2_vae": real.vae("5B"),
        "text_encoders/qwen_2.5_vl_fp16": real.qwen("F16"),
        "text_encoders/umt5_xxl": {"encoder.block.0.layer.0.SelfAttention.k.weight": ("F16", (4, 4))},
        "checkpoints/kiwi_stage3": real.kiwi_training(3),
        "diffusion_models/wan2.1_1.3B": real.dit("1.3B", "F16", True),
    }
    for name, tensors in entries.items():
        sparse.sparse_file(folder / "real" / f"{name}.safetensors", tensors)
        record.add_text(f"real: inspect {name}", command(folder, "inspect", f"real/{name}.safetensors"))
    record.add_text("real: verify", command(folder, "verify", "real"))
    (folder / "real" / "vae" / "wan2.2_vae.safetensors").unlink()
    record.add_text("real: verify without a VAE", command(folder, "verify", "real"))
    record.add_text("verify nothing", command(folder, "verify", "none"))
