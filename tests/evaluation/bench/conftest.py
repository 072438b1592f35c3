"""Fixtures of the tests of making a benchmark: a folder of small clips, and what a model would propose for one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instructx_core.media.files import write_image, write_video


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Three clips, one of them below, and what is none."""
    folder = tmp_path / "clips"
    (folder / "in").mkdir(parents=True)
    ramp_FHWC = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None, None, None] * 20, (12, 36, 64, 3))
    for name in ("a.mp4", "b 1.mp4", "in/ü.mp4"):
        write_video(folder / name, ramp_FHWC, 4)
    (folder / "notes.txt").write_text("no clip")
    (folder / ".hidden.mp4").write_bytes(b"")
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "things"
    folder.mkdir()
    write_image(folder / "dog.png", np.full((24, 24, 3), 90, np.uint8))
    return folder


@pytest.fixture
def proposing() -> Callable[..., str]:
    """proposing(request) -> five instructions of the kinds that its prompt names, as a model would answer."""

    def answer(request: dict[str, Any], **changed: Any) -> str:
        lines = request["messages"][0]["content"].splitlines()
        kinds = [line.split(": ")[0].split(". ")[1] for line in lines if line[:1].isdigit()]
        rows = [{"kind": kind, "instruction": f"Do the {kind} number {n} here."} for n, kind in enumerate(kinds)]
        return json.dumps({"instructions": rows, **changed})

    return answer
