"""The table of checkpoint layouts: a new one is a line, and every reader then knows it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from instructx_core.errors import InputError
from instructx_core.formats.layouts import checkpoints
from instructx_core.formats.layouts.adapter import load_adapter
from instructx_core.formats.layouts.files import find_files
from instructx_core.formats.layouts.ours import OURS
from instructx_core.formats.layouts.weight_file import OpenFiles


def test_the_last_line_takes_every_file(shipped: Path) -> None:
    with OpenFiles() as opened:
        for file in shipped.rglob("*.safetensors"):
            assert checkpoints.layout_of(opened, file) is OURS
            assert checkpoints.open_dit(opened, file) is opened.open(file)
    assert checkpoints.folder_layout(shipped) is None and checkpoints.LAYOUTS[-1] is OURS


def test_a_line_is_all_that_a_layout_needs(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = find_files(shipped)
    parts = {field.name: getattr(files, field.name) for field in dataclasses.fields(files)}

    def adapter(model, position):
        assert model.denoiser is model.opened.open(files.denoiser) and model.vae is not None
        return OURS.adapter(dataclasses.replace(model, path=files.adapter), position)

    layout = dataclasses.replace(
        OURS, kind="new", files=lambda opened, path: parts, adapter=adapter, is_folder=lambda path: path == shipped
    )
    monkeypatch.setattr(checkpoints, "LAYOUTS", (layout, *checkpoints.LAYOUTS))
    assert find_files(shipped) == files
    assert load_adapter(shipped).config == load_adapter(files.adapter).config


def test_nothing_there_is_one_sentence(tmp_path: Path) -> None:
    with OpenFiles() as opened, pytest.raises(InputError, match="no file"):
        checkpoints.layout_of(opened, tmp_path / "gone.safetensors")
