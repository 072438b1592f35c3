"""Options of speed and memory on the command line, the model loaded anew for each run: what is equal, what is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from instructx_core.cli import main
from instructx_core.media.files import read_image

Run = Callable[..., tuple[np.ndarray, str]]


@pytest.fixture
def run(random_checkpoint: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """run(*options) -> (pixels, standard output) of four steps on a photo at 64x64."""

    def call(*options: str) -> tuple[np.ndarray, str]:
        output = tmp_path / "out.png"
        common = ["--model", str(random_checkpoint), "--input", str(photo), "--instruction", "make it red"]
        code = main(["edit", *common, "--output", str(output), "--steps", "4", "--device", "cpu", *options])
        text, errors = capsys.readouterr()
        assert code == 0, errors
        return read_image(output), text

    return call


def test_reuse_and_offload_change_nothing_cache_and_fp8_a_little(run: Run, tmp_path: Path) -> None:
    plain, text = run("--reuse", str(tmp_path / "kept"))
    assert "(0 found, 2 made)" in text and len(list((tmp_path / "kept").iterdir())) == 2
    again, text = run("--reuse", str(tmp_path / "kept"), "--offload", "group")
    assert "(2 found, 0 made), offload group" in text and (again == plain).all()
    close, text = run("--cache", "taylorseer:2", "--fp8")
    assert "speed     cache taylorseer 2, fp8" in text
    assert close.shape == plain.shape and (close != plain).any()


@pytest.mark.slow
def test_compile_changes_nothing_that_is_seen(run: Run) -> None:
    plain, text = run()
    assert "speed     " not in text
    compiled, text = run("--compile")
    assert "speed     compile" in text and np.abs(compiled.astype(int) - plain).max() <= 1
