"""The table of checkpoint layouts: a new one is a line, and every reader then knows it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from sources import SOURCES

from instructx_core.cli import main
from instructx_core.errors import InputError
from instructx_core.formats.layouts import checkpoints
from instructx_core.formats.layouts.adapter import load_adapter
from instructx_core.formats.layouts.checkpoint_layout import CheckpointLayout
from instructx_core.formats.layouts.files import find_files
from instructx_core.formats.layouts.identity import Identity
from instructx_core.formats.layouts.ours import OURS
from instructx_core.formats.layouts.weight_file import OpenFiles
from instructx_core.formats.telling.identify import identify
from instructx_core.formats.telling.verify import verify
from instructx_core.weights import load_pipeline


def test_the_last_line_takes_every_file(shipped: Path) -> None:
    with OpenFiles() as opened:
        for file in shipped.rglob("*.safetensors"):
            assert checkpoints.layout_of(opened, file) is OURS
            assert checkpoints.open_dit(opened, file) is opened.open(file)
    assert checkpoints.folder_layout(shipped) is None and checkpoints.LAYOUTS[-1] is OURS


def test_a_line_is_all_that_a_layout_needs(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """inspect, verify, convert and load know it then; the nodes: tests/nodes/test_load_checkpoint.py."""
    files = find_files(shipped)
    parts = {field.name: getattr(files, field.name) for field in dataclasses.fields(files)}

    def adapter(model, position):
        assert model.denoiser is model.opened.open(files.denoiser) and model.vae is not None
        return OURS.adapter(dataclasses.replace(model, path=files.adapter), position)

    def tell(opened, path):
        return Identity(path, "new", "a new layout", brings=tuple(parts), parts={"transformer": files.denoiser})

    layout = CheckpointLayout(
        kind="new",
        is_folder=lambda path: path == shipped,
        files=lambda opened, path: parts,
        adapter=adapter,
        dit=lambda opened, path: opened.open(files.denoiser),
        tell=tell,
    )
    monkeypatch.setattr(checkpoints, "LAYOUTS", (layout, *checkpoints.LAYOUTS))
    assert find_files(shipped) == files
    assert load_adapter(shipped).config == load_adapter(files.adapter).config
    assert load_pipeline(shipped, torch.bfloat16).instructx_config == load_adapter(files.adapter).config
    assert identify(shipped).facts == (("transformer", identify(files.denoiser).title),)
    verdict = verify(shipped, full=True)
    assert verdict.good and [check.state for check in verdict.checks] == ["ok"] and verdict.sets == (shipped.name,)
    assert main(["inspect", str(shipped)]) == 0 and "tiny: a new layout" in capsys.readouterr().out
    for form in ("adapter", "original"):
        assert main(["convert", str(shipped), str(tmp_path / f"{form}.safetensors"), "--to", form]) == 0


def test_no_other_file_knows_a_layout_by_its_name() -> None:
    """So that there is nothing to forget: what is asked of a layout is asked by the table."""
    kinds = tuple(layout.kind for layout in checkpoints.LAYOUTS if layout is not OURS)
    told = [source.name for source in SOURCES.values() if any(f'"{kind}"' in source.text for kind in kinds)]
    assert all(name.startswith("instructx_core/formats/layouts/kiwi_") for name in told), told


def test_nothing_there_is_one_sentence(tmp_path: Path) -> None:
    with OpenFiles() as opened, pytest.raises(InputError, match="no file"):
        checkpoints.layout_of(opened, tmp_path / "gone.safetensors")
