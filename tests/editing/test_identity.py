"""What tells finished windows of one edit from those of another: every option, by content."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instructx_core.digests import file_digest
from instructx_core.editing import identity as module
from instructx_core.editing import jobs
from instructx_core.editing import request as request_module
from instructx_core.editing.identity import identity
from instructx_core.editing.journal import Journal
from instructx_core.editing.look import look_at
from instructx_core.editing.paste import KeepOutside
from instructx_core.editing.request import EditRequest
from instructx_core.editing.settings import settle
from instructx_core.editing.windows.options import WindowOptions
from instructx_core.media.files import write_image, write_video

NINE = WindowOptions(frames=9, joins="plain")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, start in (("in.mp4", 0), ("other.mp4", 3)):
        write_video(
            tmp_path / name,
            np.arange(start, start + 13, dtype=np.uint8).repeat(32 * 32 * 3).reshape(13, 32, 32, 3),
            Fraction(8),
        )
    write_image(tmp_path / "cup.png", np.zeros((8, 8, 3), np.uint8))
    write_image(tmp_path / "mask.png", np.full((32, 32, 3), 255, np.uint8))
    return tmp_path


def of(pipe: Any, folder: Path, **change: Any) -> dict[str, Any]:
    given = {"source": folder / "in.mp4", "instruction": "x", "output": folder / "out.mp4", "windows": NINE, **change}
    look = look_at(EditRequest(**given))
    settings = settle(look, pipe.instructx_config)
    assert settings.windowing is not None
    return identity(pipe, look, settings, settings.windowing)


def changes(folder: Path) -> dict[type, dict[str, dict[str, Any]]]:
    """For each field of each group, a request that differs in nothing else."""
    return {
        EditRequest: {
            "source": {"source": folder / "other.mp4"},
            "instruction": {"instruction": "y"},
            "references": {"references": (folder / "cup.png",)},
            "steps": {"steps": 7},
            "guidance": {"guidance": 2.5},
            "seed": {"seed": 1},
            "max_pixels": {"max_pixels": 16 * 16},
            "partial": {"partial": True},
            "keep_outside": {"keep_outside": KeepOutside()},
            "windows": {"windows": WindowOptions(frames=5)},
        },
        KeepOutside: {
            "mask": {"keep_outside": KeepOutside(folder / "mask.png")},
            "feather": {"keep_outside": KeepOutside(feather=3)},
        },
        WindowOptions: {
            name: {"windows": dataclasses.replace(NINE, **change)}
            for name, change in {
                "frames": {"frames": 5},
                "seconds": {"frames": None, "seconds": 0.7},
                "overlap": {"overlap": 2},
                "context": {"context": "first"},
                "match_colour": {"match_colour": True},
                "joins": {"joins": "smooth"},
                "edit_fps": {"edit_fps": 8.0},
            }.items()
        },
    }


def test_every_field_changes_it(random_pipe: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "model_digest", lambda *_: "model")
    left_out = {
        EditRequest: {"output", "max_frames", "need_sound"},  # the folder's name; an edit in one piece; a refusal
        KeepOutside: set(),
        WindowOptions: {"restart"},
    }
    plain, kept = of(random_pipe, folder), of(random_pipe, folder, keep_outside=KeepOutside())
    for kind, changed in changes(folder).items():
        assert changed.keys() | left_out[kind] == {f.name for f in dataclasses.fields(kind)}, "a new field: test it"
        for name, change in changed.items():
            assert of(random_pipe, folder, **change) != (kept if kind is KeepOutside else plain), name
    assert of(random_pipe, folder, windows=dataclasses.replace(NINE, restart=True)) == plain
    assert of(random_pipe, folder, windows=dataclasses.replace(NINE, frames=None, seconds=1.2)) == plain, "as settled"


def test_a_new_field_changes_it(random_pipe: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "model_digest", lambda *_: "model")

    @dataclasses.dataclass(frozen=True)
    class More(EditRequest):
        strength: int = 1

    look = look_at(More(source=folder / "in.mp4", instruction="x", output=folder / "out.mp4", windows=NINE))
    settings = settle(look, random_pipe.instructx_config)
    assert settings.windowing is not None
    assert identity(random_pipe, look, settings, settings.windowing)["strength"] == 1


def test_a_job_reads_its_source_once_for_both_digests(
    random_pipe: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return file_digest(path)

    for place in (jobs, module, request_module):
        monkeypatch.setattr(place, "file_digest", counted)
    request = EditRequest(source=folder / "in.mp4", instruction="x", output=folder / "out.mp4", steps=1, windows=NINE)
    journal = Journal(folder / "jobs.jsonl")
    outcomes = list(jobs.run_jobs([jobs.Job(1, request)], journal, "model", lambda: random_pipe))
    assert [outcome.status for outcome in outcomes] == ["done"], outcomes
    assert read.count(request.source) == 1
