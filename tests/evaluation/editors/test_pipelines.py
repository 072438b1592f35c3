"""diffusers' own pipelines at their smallest, with random weights, saved and read as a user's folder.

QwenImageEdit's pipelines and OmniGen are not run here: the first work at 1024x1024 whatever they are given.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from instructx_core.data.record import EditRecord, Locator
from instructx_core.errors import InputError
from instructx_core.evaluation.editors.pipelines import ADAPTERS, PipelineEditor, open_pipeline
from instructx_core.evaluation.editors.run import EditTask
from instructx_core.media.files import read_media, write_image, write_video

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
from small_pipelines import MAKERS

CPU = torch.device("cpu")


def task(folder: Path, modality: Any, reference: bool = False) -> EditTask:
    write_image(folder / "in.png", np.full((48, 70, 3), 90, np.uint8))
    write_video(folder / "in.mp4", np.full((6, 32, 48, 3), 90, np.uint8), 8)
    end = "png" if modality == "image" else "mp4"
    item = EditRecord("a", "add", modality, "make it blue", Locator(f"in.{end}"))
    return EditTask(item, folder / f"in.{end}", folder / "in.png" if reference else None, folder / f"out.{end}", 3)


@pytest.mark.parametrize("name", MAKERS)
def test_an_item_through_a_folder_of_weights(name: str, tmp_path: Path) -> None:
    if name in ("vace", "wan-v2v"):
        pytest.importorskip("ftfy", reason="diffusers' Wan pipelines clean prompts with it")
    torch.manual_seed(0)
    MAKERS[name]().save_pretrained(tmp_path / "weights")
    pipe, adapter, place = open_pipeline(f"{name}:{tmp_path / 'weights'}", CPU, None)
    editor = PipelineEditor(pipe, adapter, weights=place, steps=2, guidance=1.5, max_pixels=48 * 64)
    modality = ADAPTERS[name].modality
    edit = task(tmp_path, modality)
    editor.edit(edit)
    first = read_media(edit.output)
    assert first.frames_FHWC.shape == ((6, 32, 48, 3) if modality == "video" else (1, 48, 64, 3))
    assert modality == "image" or first.fps == 8
    editor.edit(edit)
    assert (read_media(edit.output).frames_FHWC == first.frames_FHWC).all(), "the seed is the item's noise"
    editor.edit(dataclasses.replace(edit, seed=4))
    assert (read_media(edit.output).frames_FHWC != first.frames_FHWC).any()


@pytest.mark.parametrize(
    ("name", "modality", "reference", "said"),
    [
        ("kontext", "video", False, "edits pictures, not clips"),
        ("wan-v2v", "image", False, "edits clips, not pictures"),
        ("kontext", "image", True, "takes no reference picture"),
    ],
)
def test_items_that_are_not_for_it(name: str, modality: str, reference: bool, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        PipelineEditor(None, name).edit(task(tmp_path, modality, reference))


def test_folders_that_are_none(tmp_path: Path) -> None:
    for spec, said in (
        ("paint:x", "with NAME one of instruct-pix2pix, kontext"),
        ("kontext", "use NAME:DIR"),
        (f"kontext:{tmp_path}", "no model_index.json in it"),
    ):
        with pytest.raises(InputError) as caught:
            open_pipeline(spec, CPU, None)
        assert said in str(caught.value)
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(InputError, match="is no FluxKontextPipeline that this diffusers reads"):
        open_pipeline(f"kontext:{tmp_path}", CPU, None)


def test_every_adapter_names_a_pipeline_and_its_arguments() -> None:
    """Of this diffusers: what is passed by name is taken by name."""
    import inspect

    import diffusers
    from PIL import Image

    from instructx_core.evaluation.editors.pipelines import PipelineCall

    picture = Image.new("RGB", (64, 48))
    for adapter in ADAPTERS.values():
        reference = picture if adapter.takes_reference else None
        taken = inspect.signature(getattr(diffusers, adapter.kind).__call__).parameters
        for size in (None, (48, 64)):
            given = adapter.arguments(PipelineCall("make it blue", [picture] * 5, reference, size))
            assert {*given, adapter.guidance, "prompt", "num_inference_steps", "generator"} <= taken.keys(), (
                adapter.kind
            )
