"""What each stage trains: the exact set is frozen here, and one step changes these tensors and no other."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from instructx_core.config import paper_14b, tiny
from instructx_core.data.shapes import ShapesWorld
from instructx_core.denoiser import build_denoiser
from instructx_core.encoder.designs import build_encoder
from instructx_core.errors import InputError
from instructx_core.training.jobs.edit import EditJob
from instructx_core.training.recipes.paper import stage1, stage2, stage3
from instructx_core.training.trainable import groups, select
from instructx_core.training.trainer import Trainer

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from nano import nano, nano_stage1, nano_stage2


def parts(config, device="cpu"):
    with torch.device(device):
        encoder, denoiser = build_encoder(config), build_denoiser(config)
        encoder.add_lora(config.lora)
    return encoder, denoiser


def kinds(names) -> Counter:
    """Tensors by the module they belong to."""
    rules = {".lora_": "lora", "encoder.queries": "queries", "encoder.connector": "connector", "denoiser.": "denoiser"}
    return Counter(next(kind for mark, kind in rules.items() if mark in name) for name in names)


def test_paper_values_are_the_defaults() -> None:
    one, two, three = stage1(), stage2(), stage3()
    assert (one.num_steps, two.num_steps, three.num_steps) == (20_000, 20_000, 5_000)
    assert {r.learning_rate for r in (one, two, three)} == {1e-5}
    assert {(r.image_batch, r.video_batch) for r in (one, two, three)} == {(128, 32)}
    assert (one.video_probability, two.video_probability) == (0.0, 0.6)
    assert not one.source_latents and two.source_latents  # VAE features enter in stage 2
    assert (one.requires, two.requires, three.requires) == (("base",), ("base", "stage1"), ("base", "stage2"))


def test_stage1_of_the_tiny_model_trains_exactly_these() -> None:
    encoder, denoiser = parts(tiny())
    chosen = select(stage1().train, encoder, denoiser)
    # 4 layers x 7 linears x (A, B); two linears with bias; the image queries; no DiT
    assert kinds(chosen) == {"lora": 56, "connector": 4, "queries": 1}
    assert "encoder.queries.image" in chosen
    assert not any(p.requires_grad for p in denoiser.parameters())


def test_stage2_of_the_tiny_model_trains_exactly_these() -> None:
    encoder, denoiser = parts(tiny())
    chosen = select(stage2().train, encoder, denoiser)
    # 6 blocks x 27 tensors; patch, head, table, time embedding and projection outside; two own embedders;
    # text_embedding is bypassed
    assert kinds(chosen) == {"lora": 56, "connector": 4, "queries": 2, "denoiser": 6 * 27 + 11 + 4}
    assert not any("text_embedder" in name for name in chosen)


def test_own_embedders_are_trained_from_stage_2_on() -> None:
    config = nano()
    tied = dataclasses.replace(config.denoiser, source_embedder="tied", reference_embedder="tied")
    literal = dataclasses.replace(config, denoiser=tied)
    extra = set(select(stage2().train, *parts(config))) - set(select(stage2().train, *parts(literal)))
    assert extra == {
        f"denoiser.{part}_embedder.{kind}" for part in ("source", "reference") for kind in ("weight", "bias")
    }


def test_sizes_of_the_paper() -> None:
    encoder, denoiser = parts(paper_14b(), "meta")
    sizes = {name: sum(p.numel() for p in tensors.values()) for name, tensors in groups(encoder, denoiser).items()}
    assert sizes["lora"] == 594_444_288
    assert sizes["queries.image"] + sizes["queries.video"] == (256 + 512) * 2048
    assert sizes["connector"] == 2048 * 5120 + 5120 + 5120 * 5120 + 5120


def test_an_unknown_group_is_named() -> None:
    with pytest.raises(InputError, match="nonsense"):
        select(("nonsense",), *parts(nano()))


@pytest.mark.parametrize("recipe", [nano_stage1(), nano_stage2(video_probability=0.5)], ids=["stage1", "stage2"])
def test_a_step_changes_the_trained_tensors_and_no_other(recipe, tmp_path: Path) -> None:
    job = EditJob(recipe, nano(), ShapesWorld(), tmp_path)
    with torch.no_grad():  # zero-initialised LoRA B gives LoRA A no gradient in the first step
        for name, parameter in job.trainable.items():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    before = {name: p.detach().clone() for name, p in root(job).items()}
    trainer = Trainer(recipe, job, tmp_path / "run")
    for _ in range(6):  # both modalities
        trainer.train_step()
    changed = {name for name, p in root(job).items() if not torch.equal(p, before[name])}
    assert changed == set(job.trainable)


def root(job: EditJob) -> dict[str, torch.nn.Parameter]:
    modules = {"vae": job.model.parts.vae, "encoder": job.encoder, "denoiser": job.denoiser}
    return {f"{part}.{name}": p for part, module in modules.items() for name, p in module.named_parameters()}
