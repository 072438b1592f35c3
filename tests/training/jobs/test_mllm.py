"""The tiny MLLM's pretraining: the loss is of the answers alone, and all of Qwen2.5-VL is trained."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch

from instructx_core.errors import InputError
from instructx_core.training.jobs.chat import IGNORE
from instructx_core.training.jobs.mllm import MllmJob, answer_loss
from instructx_core.training.recipes.mllm import MllmRecipe
from instructx_core.weights import SHIPPED

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
from nano import FAST, nano
from small_source import SmallSource

PAIRS = [("what is this?", "noise"), ("invert the colors", "a long answer to a question")]


def nano_mllm(folder: Path, **values: object) -> MllmJob:
    shutil.copy(SHIPPED / "tokenizer.json", folder)  # training one takes a while
    recipe = {"name": "mllm", "description": "", "num_steps": 2, "image_pool": 4, "image_validation": 2}
    return MllmJob(MllmRecipe(**FAST | recipe | values), nano(), SmallSource(8), folder)


def test_the_loss_is_of_the_answers(tmp_path: Path) -> None:
    """Another question changes no label; another answer does. What a row is padded with never counts."""
    job = nano_mllm(tmp_path)
    bucket, pool = next(iter(job.pools.items()))
    frames = pool.take("frames", torch.arange(2).numpy())
    with torch.no_grad():
        logits_BLV, labels_BL = job._logits(frames, PAIRS, bucket)
        said = [job.tokenizer.decode(row[row != IGNORE].tolist()) for row in labels_BL]
        assert [text.removesuffix("<|im_end|>") for text in said] == [answer for _, answer in PAIRS]
        alone = [answer_loss(*job._logits(frames[i : i + 1], PAIRS[i : i + 1], bucket)) for i in range(2)]
        counts = (labels_BL != IGNORE).sum(1)
    both = (alone[0] * counts[0] + alone[1] * counts[1]) / counts.sum()
    torch.testing.assert_close(answer_loss(logits_BLV, labels_BL), both)


def test_vision_tower_and_language_model_are_trained(tmp_path: Path) -> None:
    job = nano_mllm(tmp_path)
    parameters = dict(job.root.named_parameters())
    assert set(job.trainable) == {name for name in parameters if name.startswith("encoder.mllm.")}
    assert any(".visual." in name for name in job.trainable)


def test_a_recipe_without_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no samples to train on: give image_pool"):
        nano_mllm(tmp_path, image_pool=0)
