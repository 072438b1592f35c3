"""Two ComfyUI processes on one installation, as workflows/api/README.md starts them for several GPUs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.comfyui
API = Path(__file__).resolve().parents[2] / "workflows" / "api"


@pytest.fixture(scope="module")
def second(host: Any, load_helper: Callable[[str, str], ModuleType]) -> Iterator[Any]:
    """Beside the first: the same packs and models, but output, temp and user folders of its own, and no database."""
    folders = [(f"--{name}-directory", host.base / name / "1") for name in ("output", "temp", "user")]
    folders[-1][1].mkdir()  # the one that the host wants to be there
    options = [part for option, folder in folders for part in (option, str(folder))]
    module = load_helper("instructx_test_host", "comfyui/host.py")
    with module.Host(host.tree, host.base, packs=(), extra=tuple(options), log="second.log") as running:
        yield running


def client(folder: Path, *urls: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(API / "client.py"), str(API / "try_image.json"), "--output", str(folder)]
    given = [part for url in urls for part in ("--url", url)]
    return subprocess.Popen([*command, *given], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_job_goes_to_the_one_that_is_free(host: Any, second: Any, tmp_path: Path) -> None:
    long = json.loads((API / "try_video.json").read_text(encoding="utf-8").replace('"steps": 4', '"steps": 900'))
    busy, before = host.queue(long), set((host.base / "output").glob("*.png"))
    running = client(tmp_path, host.url, second.url)
    _, errors = running.communicate(timeout=240)
    assert running.returncode == 0, errors
    assert list((host.base / "output" / "1").rglob("*.png")), "in the second one's own folder"
    assert set((host.base / "output").glob("*.png")) == before
    assert host.running(), "the first one is still at work"
    host.interrupt()
    assert host.wait(busy)["status"]["status_str"] == "error"


def test_both_at_once_give_the_same_picture(host: Any, second: Any, tmp_path: Path) -> None:
    host.free()
    second.free()
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    running = [client(folder, one.url) for folder, one in zip(folders, (host, second), strict=True)]
    for process in running:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    pictures = [np.array(Image.open(next(folder.iterdir()))) for folder in folders]
    assert np.array_equal(*pictures) and pictures[0].std() > 5
