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
from instructx_core.training.job_mllm import MllmJob
from instructx_core.training.recipes import Recipe
from instructx_core.training.tiny_recipes import tiny_mllm_words
from instructx_core.weights import SHIPPED

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from nano import FAST, nano


@pytest.fixture(autouse=True)
def tokenizer(tmp_path: Path) -> None:
    """The shipped one: training one takes a while."""
    shutil.copy(SHIPPED / "tokenizer.json", tmp_path)


def nano_mllm(share: float = 0.0) -> Recipe:
    return Recipe(
        **FAST | {"name": "tiny_mllm", "job": "mllm", "train": ("mllm",), "num_steps": 2, "instruction_share": share}
    )


def test_instructions_are_answered_by_the_caption_of_the_edited_picture(tmp_path: Path) -> None:
    job = MllmJob(nano_mllm(1.0), nano(), tmp_path)
    for index, (frames_FHWC, question, answer) in enumerate(job._questions("train", np.arange(9), "image")):
        edit = shapes.sample("train", index, "image", shapes.TASKS[index])
        assert np.array_equal(frames_FHWC, edit.source_FHWC)
        assert (question, answer) == (edit.instruction, edit.caption)


def test_the_share_of_instructions_is_drawn_by_number(tmp_path: Path) -> None:
    plain = MllmJob(nano_mllm(), nano(), tmp_path)._questions("train", np.arange(40), "image")
    mixed = MllmJob(nano_mllm(0.5), nano(), tmp_path)
    found = mixed._questions("train", np.arange(40), "image")
    other = sum(a[1:] != b[1:] for a, b in zip(plain, found, strict=True))
    assert 10 < other < 40
    again = mixed._questions("train", np.arange(20, 40), "image")
    assert [q[1:] for q in again] == [q[1:] for q in found[20:]]


def test_the_second_run_leaves_the_vision_tower_alone(tmp_path: Path) -> None:
    """Or the pools of encoded pictures would be worthless."""
    first = MllmJob(nano_mllm(), nano(), tmp_path)
    (tmp_path / "tiny_mllm").mkdir()
    save_file({n: p.detach() for n, p in first.trainable.items()}, tmp_path / "tiny_mllm" / "final.safetensors")
    second = MllmJob(dataclasses.replace(tiny_mllm_words(), seed=5), nano(), tmp_path)
    assert all(name.startswith("encoder.mllm.language_model.") for name in second.trainable)
    assert len(second.trainable) + sum(".visual." in name for name in first.trainable) == len(first.trainable)
    for name, parameter in second.root.named_parameters():
        if name in first.trainable:
            assert parameter.equal(first.trainable[name])
