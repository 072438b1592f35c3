"""The tiny MLLM's pretraining: what it is asked, and which of its tensors the second run trains."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from instructx_core import shapes
from instructx_core.data.bucket import Bucket
from instructx_core.data.shapes import ShapesWorld
from instructx_core.training.jobs.mllm import MllmJob
from instructx_core.training.recipes.mllm import MllmRecipe
from instructx_core.training.recipes.tiny import tiny_mllm_words
from instructx_core.weights import SHIPPED

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
from nano import FAST, nano

IMAGES = Bucket("image", 1, 64, 64)


@pytest.fixture(autouse=True)
def tokenizer(tmp_path: Path) -> None:
    """The shipped one: training one takes a while."""
    shutil.copy(SHIPPED / "tokenizer.json", tmp_path)


def nano_mllm(folder: Path, share: float = 0.0) -> MllmJob:
    values = {"name": "tiny_mllm", "description": "", "num_steps": 2, "instruction_share": share}
    return MllmJob(MllmRecipe(**FAST | values), nano(), ShapesWorld(), folder)


def test_instructions_are_answered_by_the_caption_of_the_edited_picture(tmp_path: Path) -> None:
    questions = nano_mllm(tmp_path, 1.0).questions("train", np.arange(9), IMAGES)
    for index, question in enumerate(questions):
        edit = shapes.sample("train", index, "image", shapes.TASKS[index])
        assert np.array_equal(question.frames_FHWC, edit.source_FHWC)
        assert (question.text, question.answer) == (edit.instruction, edit.caption)


def test_the_share_of_instructions_is_drawn_by_number(tmp_path: Path) -> None:
    plain = nano_mllm(tmp_path).questions("train", np.arange(40), IMAGES)
    mixed = nano_mllm(tmp_path, 0.5)
    found = mixed.questions("train", np.arange(40), IMAGES)
    other = sum((a.text, a.answer) != (b.text, b.answer) for a, b in zip(plain, found, strict=True))
    assert 10 < other < 40
    again = mixed.questions("train", np.arange(20, 40), IMAGES)
    assert [(q.text, q.answer) for q in again] == [(q.text, q.answer) for q in found[20:]]


def test_the_second_run_leaves_the_vision_tower_alone(tmp_path: Path) -> None:
    """Or the pools of encoded pictures would be worthless."""
    first = nano_mllm(tmp_path)
    (tmp_path / "tiny_mllm").mkdir()
    save_file({n: p.detach() for n, p in first.trainable.items()}, tmp_path / "tiny_mllm" / "final.safetensors")
    second = MllmJob(dataclasses.replace(tiny_mllm_words(), seed=5), nano(), ShapesWorld(), tmp_path)
    assert all(name.startswith("encoder.mllm.language_model.") for name in second.trainable)
    assert len(second.trainable) + sum(".visual." in name for name in first.trainable) == len(first.trainable)
    for name, parameter in second.root.named_parameters():
        if name in first.trainable:
            assert parameter.equal(first.trainable[name])
