"""diffusers' own pipelines at their smallest, with random weights, saved and read as a user's folder: each that there
is an adapter of edits an item, with and without a reference where it takes one."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from instructx_core.data.record import EditRecord, Locator
from instructx_core.errors import InputError
from instructx_core.evaluation.editors.adapters import ADAPTERS, PipelineCall
from instructx_core.evaluation.editors.pipelines import PipelineEditor, open_pipeline
from instructx_core.evaluation.editors.run import EditTask, edit_items
from instructx_core.evaluation.run_folder import RunFolder
from instructx_core.media.files import read_media, write_image, write_video

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
from small_pipelines import MAKERS

CPU = torch.device("cpu")


def task(folder: Path, modality: Any, reference: bool = False) -> EditTask:
    write_image(folder / "in.png", np.full((48, 70, 3), 90, np.uint8))
    write_image(folder / "it.png", np.random.default_rng(1).integers(0, 256, (40, 24, 3), np.uint8))
    write_video(folder / "in.mp4", np.full((6, 32, 48, 3), 90, np.uint8), 8)
    end = "png" if modality == "image" else "mp4"
    item = EditRecord("a", "add", modality, "make it blue", Locator(f"in.{end}"))
    return EditTask(item, folder / f"in.{end}", folder / "it.png" if reference else None, folder / f"out.{end}", 3)


def test_every_adapter_is_run_here() -> None:
    assert MAKERS.keys() == ADAPTERS.keys()


@pytest.mark.parametrize("name", MAKERS)
def test_an_item_through_a_folder_of_weights(name: str, tmp_path: Path) -> None:
    if name in ("vace", "wan-v2v"):
        pytest.importorskip("ftfy", reason="diffusers' Wan pipelines clean prompts with it")
    torch.manual_seed(0)
    MAKERS[name]().save_pretrained(tmp_path / "weights")
    pipe, adapter, place = open_pipeline(f"{name}:{tmp_path / 'weights'}", CPU, None)
    modality = ADAPTERS[name].modality

    def edited(edit: EditTask, guidance: float = 1.5) -> np.ndarray:
        editor = PipelineEditor(pipe, adapter, weights=place, steps=2, guidance=guidance, max_pixels=48 * 64)
        editor.edit(edit)
        media = read_media(edit.output)
        assert media.frames_FHWC.shape == ((6, 32, 48, 3) if modality == "video" else (1, 48, 64, 3))
        assert modality == "image" or media.fps == 8
        return media.frames_FHWC

    edit = task(tmp_path, modality)
    first = edited(edit)
    assert (edited(edit) == first).all(), "the seed is the item's noise"
    assert (edited(dataclasses.replace(edit, seed=4)) != first).any()
    assert (edited(edit, guidance=500.0) != first).any(), "the scale of the text counts"
    if ADAPTERS[name].takes_reference:
        assert (edited(task(tmp_path, modality, reference=True)) != first).any(), "it is seen"


def test_exchanged_weights_are_another_editor(tmp_path: Path) -> None:
    """By content: not where the folder lies, but every weight, its number format and the configurations."""
    weights, run = tmp_path / "weights", RunFolder(tmp_path / "run")
    torch.manual_seed(0)
    made = MAKERS["instruct-pix2pix"]()
    made.save_pretrained(weights)
    edit = task(tmp_path, "image")
    item = dataclasses.replace(edit.item, source=Locator(str(edit.source)))

    def editor(place: Path, dtype: str | None = None) -> PipelineEditor:
        return PipelineEditor(*open_pipeline(f"instruct-pix2pix:{place}", CPU, dtype)[:2], weights=key(place, dtype))

    def key(place: Path, dtype: str | None = None) -> str:
        return open_pipeline(f"instruct-pix2pix:{place}", CPU, dtype)[2]

    first = editor(weights)
    first.steps = 1
    assert edit_items(run, first, [item])[0].error is None
    shutil.copytree(weights, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / ".cache").mkdir()
    (tmp_path / "elsewhere" / ".cache" / "download.json").write_text("{}")
    same = editor(tmp_path / "elsewhere")
    same.steps = 1
    edit_items(run, same, [item])
    assert key(weights, "float64") != key(weights)
    with torch.no_grad():
        next(made.unet.parameters()).view(-1)[7] += 1e-3
    made.unet.save_pretrained(weights / "unet")
    other = editor(weights)
    other.steps = 1
    with pytest.raises(InputError, match="there are outputs of another weights; give this one another --name"):
        edit_items(run, other, [item])
    scheduler = tmp_path / "elsewhere" / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace('"beta_end": 0.02', '"beta_end": 0.03'))
    assert key(tmp_path / "elsewhere") != same.weights


def test_the_reference_does_not_give_the_size() -> None:
    """Of Qwen-Image-Edit-Plus, which takes that of its last picture: it is told what it gives without a reference."""
    from diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus import VAE_IMAGE_SIZE, calculate_dimensions

    for width, height in ((70, 48), (48, 70), (1024, 1024), (1920, 1080), (333, 1000)):
        source, reference = Image.new("RGB", (width, height)), Image.new("RGB", (30, 90))
        given = ADAPTERS["qwen-image-edit-plus"].arguments(PipelineCall("x", [source], reference, None))
        assert (given["width"], given["height"]) == calculate_dimensions(VAE_IMAGE_SIZE, width / height)
        assert given["image"] == [source, reference]


def test_omnigen_sees_the_source_at_the_size_of_its_output() -> None:
    source = Image.new("RGB", (70, 48))
    given = ADAPTERS["omnigen"].arguments(PipelineCall("x", [source], None, (48, 80)))
    assert given["input_images"][0].size == (80, 48) and given["max_input_image_size"] == 80
    assert ADAPTERS["omnigen"].arguments(PipelineCall("x", [source], None, None))["input_images"] == [source]


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
    (tmp_path / "model_index.json").write_text('{"_class_name": "QwenImageEditPlusPipeline"}')
    with pytest.raises(InputError, match="holds a QwenImageEditPlusPipeline; use --diffusers qwen-image-edit-plus:"):
        open_pipeline(f"qwen-image-edit:{tmp_path}", CPU, None)
    (tmp_path / "model_index.json").write_text("[1]")
    with pytest.raises(InputError, match="is no JSON object; download it again"):
        open_pipeline(f"kontext:{tmp_path}", CPU, None)


def test_every_adapter_names_a_pipeline_and_its_arguments() -> None:
    """Of this diffusers: what is passed by name is taken by name."""
    import inspect

    import diffusers

    picture = Image.new("RGB", (64, 48))
    for adapter in ADAPTERS.values():
        reference = picture if adapter.takes_reference else None
        taken = inspect.signature(getattr(diffusers, adapter.kind).__call__).parameters
        for size in (None, (48, 64)):
            given = adapter.arguments(PipelineCall("make it blue", [picture] * 5, reference, size))
            assert {*given, adapter.guidance, "prompt", "num_inference_steps", "generator"} <= taken.keys(), (
                adapter.kind
            )
