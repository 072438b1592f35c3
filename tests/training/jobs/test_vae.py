"""The VAE's training: the whole of it or its decoder alone, on scenes or on what edits make."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from instructx_core.data.bucket import Bucket
from instructx_core.data.world import ShapesWorld
from instructx_core.training.export import trained_pipeline
from instructx_core.training.jobs.vae import VaeJob, weigh
from instructx_core.training.recipes.base import SHIPPED
from instructx_core.training.recipes.tiny import tiny_decoder
from instructx_core.training.recipes.vae import VaeRecipe
from instructx_core.training.start import final_weights
from instructx_core.training.trainer import Trainer
from instructx_core.weights import SHIPPED as SHIPPED_FOLDER
from instructx_core.weights import load_pipeline

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
from nano import FAST, small_vae


def recipe(**values: object) -> VaeRecipe:
    decoder = {"name": "decoder", "description": "", "part": "decoder", "pictures": "edits", "num_steps": 3}
    return VaeRecipe(**FAST | decoder | values)


def test_the_decoder_alone_is_trained_and_the_latents_stay(tmp_path: Path) -> None:
    job = VaeJob(recipe(video_probability=0.5), small_vae(), ShapesWorld(), tmp_path)
    parameters = dict(job.root.named_parameters())
    assert set(job.trainable) == {n for n in parameters if n.startswith(("vae.decoder.", "vae.post_quant_conv."))}
    pixels, _ = job.pictures("val", np.arange(2), Bucket("image", 1, 64, 64))
    before = {name: p.detach().clone() for name, p in parameters.items()}
    latents = job.vae.encode(pixels).latent_dist.mode()
    trainer = Trainer(recipe(video_probability=0.5), job, tmp_path / "run")
    for _ in range(3):
        trainer.train_step()
    changed = {name for name, p in parameters.items() if not torch.equal(p, before[name])}
    assert changed and changed <= set(job.trainable)
    job.finish()  # folds nothing: the latents already have the statistics of the Wan format
    assert torch.equal(job.vae.encode(pixels).latent_dist.mode(), latents)


def test_the_whole_vae_is_trained_by_default(tmp_path: Path) -> None:
    job = VaeJob(recipe(part="whole", pictures="scenes"), small_vae(), ShapesWorld(), tmp_path)
    assert set(job.trainable) == set(dict(job.root.named_parameters()))


def test_a_small_region_weighs_as_much_as_a_large_one() -> None:
    small, large = np.zeros((2, 1, 8, 8), bool)
    small[0, 0, :2], large[0, 4:] = True, True
    weights = weigh((("small", small), ("large", large)), (1, 8, 8))
    assert weights.mean() == pytest.approx(1)
    assert (weights - 0.5)[small].sum() == pytest.approx((weights - 0.5)[large].sum())


def test_training_starts_from_the_shipped_model(tmp_path: Path) -> None:
    """And what it trained is exported with the rest of that model."""
    weights = final_weights(tmp_path, SHIPPED)
    kept = load_pipeline(dtype=torch.float32, merge_lora=False)
    vae = {name.removeprefix("vae."): value for name, value in weights.items() if name.startswith("vae.")}
    assert all(torch.equal(value, kept.vae.state_dict()[name]) for name, value in vae.items())
    (tmp_path / "tiny_decoder").mkdir()
    (tmp_path / "tiny_decoder" / "recipe.json").write_text('{"requires": ["shipped"]}')
    changed = {"vae.post_quant_conv.bias": weights["vae.post_quant_conv.bias"] + 1}
    save_file(changed, tmp_path / "tiny_decoder" / "final.safetensors")
    shutil.copyfile(SHIPPED_FOLDER / "tokenizer.json", tmp_path / "tokenizer.json")  # training one takes 20 s
    pipeline = trained_pipeline(tmp_path, tiny_decoder())
    states = {"transformer": pipeline.transformer, "encoder": pipeline.encoder}
    for name, module in states.items():
        expected = getattr(kept, name).state_dict()
        assert {k: v.shape for k, v in module.state_dict().items()} == {k: v.shape for k, v in expected.items()}
        assert all(torch.equal(value, expected[key]) for key, value in module.state_dict().items())
    assert torch.equal(pipeline.vae.post_quant_conv.bias, changed["vae.post_quant_conv.bias"])


def test_a_part_that_comes_before_the_model_does_not_start_from_it(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "instructx_core",
        "train",
        "tiny_mllm",
        "--from-shipped",
        "--output",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "tiny_mllm does not" in done.stderr and not list(tmp_path.iterdir())
