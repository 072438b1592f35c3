"""Outputs of training: every kind of job on a small model for a few steps, and the samples that it is given.

Part of scripts/outputs.py, which calls record_training. All that knows how recipes and jobs are made is in `nano`,
`recipes`, `run` and `samples`; the rest reads files of a run: trained tensors, checkpoints, metrics, pools, pictures.
Legend: F frames, H W pixels.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from outputs import Record, command, pixels_of, preload, tensors_of
from outputs_edits import model_folder

# --- what the reorganisation of the recipes changes ----------------------------------------------------------------


def nano() -> Any:
    """The tiny model's configuration with a few ten thousand parameters (as tests/support/nano.py)."""
    from instructx_core.config import MllmConfig, VaeConfig, VisionConfig, tiny

    base = tiny()
    vision = VisionConfig(depth=1, hidden_size=32, intermediate_size=32, num_heads=2, full_attention_blocks=(0,))
    mllm = MllmConfig(
        vocab_size=1024,
        hidden_size=32,
        intermediate_size=32,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        mrope_section=(2, 3, 3),
        vision=vision,
    )
    lora = dataclasses.replace(base.lora, rank=2, alpha=2)
    denoiser = dataclasses.replace(base.denoiser, dim=128, ffn_dim=64, num_layers=1, num_heads=1)
    return dataclasses.replace(base, mllm=mllm, lora=lora, denoiser=denoiser, vae=VaeConfig(base_dim=8))


FAST: dict[str, Any] = {
    "preset": "tiny",
    "data": "shapes",
    "precision": "fp32",
    "learning_rate": 1e-3,
    "warmup_steps": 2,
    "image_batch": 4,
    "video_batch": 2,
    "micro_image_batch": 2,
    "micro_video_batch": 2,
    "save_every": 2,
    "validate_every": 0,
    "sample_every": 0,
    "requires": (),
    "num_steps": 3,
}
COUNTS = {
    "image_validation": 54,
    "image_reference_validation": 16,
    "video_validation": 14,
    "video_reference_validation": 6,
}


def recipes() -> dict[str, Any]:
    """name -> recipe. A stage that starts from another one names it, so they run in this order."""
    from instructx_core.training.recipes.mllm import MllmRecipe
    from instructx_core.training.recipes.paper import stage1, stage2, stage3
    from instructx_core.training.recipes.text_to_video import TextToVideoRecipe
    from instructx_core.training.recipes.vae import Crops, VaeRecipe

    def pretraining(kind: Any, **values: Any) -> Any:
        return kind(**FAST | {"description": ""} | values)

    def stage(make: Any, **values: Any) -> Any:
        return dataclasses.replace(make(), **FAST | COUNTS | values)

    images, clips = {"image_pool": 6}, {"video_pool": 2}
    muon = {"muon_scale": 2.0, "ema_decay": 0.9}
    mixed = {**images, **clips, "video_probability": 0.5}
    references = {"image_reference_pool": 4, "video_reference_pool": 2}
    every = {**images, **clips, **references, "video_probability": 0.5, "reference_probability": 0.5}
    parts = ("vae_clips", "mllm", "text_to_video")
    started = {"requires": (*parts, "stage1")}
    made = [
        pretraining(VaeRecipe, name="vae_images", **images, **muon, crops=(Crops(32, 0.5, 4, 2),), num_steps=7),
        pretraining(VaeRecipe, name="vae_clips", **mixed, **muon, requires=("vae_images",)),
        pretraining(MllmRecipe, name="mllm", **mixed, learning_rate_decay="cooldown"),
        pretraining(
            TextToVideoRecipe,
            name="text_to_video",
            requires=("vae_clips",),
            video_probability=0.5,
            image_pool=4,
            video_pool=2,
        ),
        stage(stage1, name="stage1", **images, requires=parts),
        stage(stage2, name="stage2_images", **images, **started, video_probability=0.0, ema_decay=0.9),
        stage(stage2, name="stage2_clips", **images, **clips, **started, video_probability=1.0),
        stage(stage2, name="stage2_references", **every, **started, num_steps=6, weighting="none", shift=8.0),
        stage(stage2, name="stage2_bf16", **images, **started, video_probability=0.0, precision="bf16"),
        stage(stage2, name="stage2_tied", **images, **started, video_probability=0.0, source_embedder="tied"),
        stage(
            stage3,
            name="stage3",
            **every,
            requires=(*parts, "stage1", "stage2_references"),
            tasks=("add", "color", "color"),
            pool_start=5,
            seed=3,
            sample_every=3,
        ),
    ]
    return {recipe.name: recipe for recipe in made}


def run(recipe: Any, output: Path, stop_at: int | None = None) -> None:
    """Train under output/NAME; stop_at: a checkpoint, and no end."""
    from instructx_core.training.runs.run import build_job
    from instructx_core.training.trainer import Trainer

    Trainer(recipe, build_job(recipe, nano(), output), output / recipe.name).run(stop_at)


def samples(split: str, index: int, modality: str) -> dict[str, Any]:
    """What the procedural world draws for training under one number: an edit, and a scene with its questions."""
    from instructx_core import shapes

    edit = shapes.sample(split, index, modality, shapes.tasks_of(split, modality)[index % 9])
    frames, caption, scene = shapes.scene_sample(split, index, modality, shapes.looks_of(modality))
    found = {"source": edit.source_FHWC, "target": edit.target_FHWC, "scene": frames}
    found |= {f"region {name}": mask for name, mask in edit.regions}
    if edit.reference_HWC is not None:
        found["reference"] = edit.reference_HWC
    pairs = [list(pair) for pair in shapes.qa_pairs(scene, np.random.default_rng(index))]
    return {**found, "texts": [edit.task, edit.instruction, edit.caption, caption, pairs]}


# --- what stays ----------------------------------------------------------------------------------------------------


def record_training(record: Record, folder: Path) -> None:
    preload()
    for split in ("train", "val", "test"):
        for modality, count in (("image", 36), ("video", 9)):
            for index in range(count if split == "train" else 9):
                record.add_tensors(f"sample {split} {modality} {index}", samples(split, index, modality))
    shutil.copy(model_folder() / "tokenizer.json", folder)  # training one takes 20 s
    with (folder / "log").open("w", encoding="utf-8") as log, contextlib.redirect_stderr(log):  # progress bars
        for name, recipe in recipes().items():
            run(recipe, folder)
            record_run(record, folder / name, name)
        stopped = dataclasses.replace(recipes()["stage2_references"], name="resumed")
        run(stopped, folder, stop_at=3)
        run(stopped, folder)
        record_run(record, folder / "resumed", "resumed")
    record_pools(record, folder / "pools")
    record_real(record, folder)


def record_pools(record: Record, folder: Path) -> None:
    """The shards; apart from them the names of the folders, which hold a hash of names and weights of the model."""
    record.add_text("pool folders", "\n".join(sorted(path.name for path in folder.iterdir())))
    for path in sorted(folder.rglob("*.safetensors")):
        kind = re.sub(r"^shapes-\d+-|-\d+x\d+x\d+|-v\d+-[0-9a-f]+$", "", path.parent.name)  # as before buckets
        kind = kind.removesuffix("-plain") if kind.startswith("scene") else kind
        record.add_tensors(f"pool {kind}/{path.name}", tensors_of(path))


def record_run(record: Record, folder: Path, name: str) -> None:
    """Left out: the recipe in the metadata, whose fields may move; loss.png, which is drawn from the metrics."""
    for path in sorted(folder.rglob("*.safetensors")):
        tensors = tensors_of(path)
        tensors.pop("metadata")
        record.add_tensors(f"{name}: {path.relative_to(folder)}", tensors)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row.pop("seconds", None)
    record.add_text(f"{name}: metrics", json.dumps(rows, indent=1))
    for path in sorted(folder.glob("sample-*.png")):
        record.add(f"{name}: {path.name}", pixels_of(path))


def record_real(record: Record, folder: Path) -> None:
    """A few steps of real recipes by the command line."""
    real = folder / "real"
    real.mkdir()
    shutil.copy(folder / "tokenizer.json", real)
    for name, options in (("tiny_vae", []), ("tiny_mllm", ["--seed", "5"])):
        text = command(real, "train", name, "--output", str(real), "--rehearse", "--threads", "1", *options)
        if not (real / name / "final.safetensors").exists():
            raise RuntimeError(f"instructx train {name} made nothing:\n{text}")
        record_run(record, real / name, f"instructx train {name}")
