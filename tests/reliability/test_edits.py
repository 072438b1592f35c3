"""Alpha, damaged clips, masks and a step that is not finite, through edit_file and the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from instructx_core.cli import main
from instructx_core.editing.edit import edit_file
from instructx_core.editing.paste import KeepOutside
from instructx_core.errors import InputError
from instructx_core.media.files import read_media, write_video

RNG = np.random.default_rng(0)


def test_alpha_is_kept_where_the_format_can(random_pipe: Any, tmp_path: Path) -> None:
    rgba = RNG.integers(0, 256, (32, 48, 4), dtype=np.uint8)
    rgba[:16, :, 3] = 255
    rgba[16:, :24, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "in.png")
    report = edit_file(random_pipe, tmp_path / "in.png", "x", output=tmp_path / "out.png", steps=1)
    assert (np.array(Image.open(tmp_path / "out.png"))[..., 3] == rgba[..., 3]).all()
    assert any("over white" in note for note in report.notes) and any("put back" in note for note in report.notes)
    report = edit_file(random_pipe, tmp_path / "in.png", "x", output=tmp_path / "out.jpg", steps=1)
    assert any("transparency is lost" in note for note in report.notes)


def test_partial(random_pipe: Any, tmp_path: Path) -> None:
    clip, output = tmp_path / "cut.mkv", tmp_path / "out.mp4"
    write_video(clip, RNG.integers(0, 256, (16, 48, 64, 3), dtype=np.uint8), 8)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
    with pytest.raises(InputError, match="cut off"):
        edit_file(random_pipe, clip, "x", output=output, steps=1)
    assert not output.exists()
    report = edit_file(random_pipe, clip, "x", output=output, steps=1, partial=True)
    assert 0 < report.frames_in < 16 and len(read_media(output).frames_FHWC) == report.frames_in


def test_keep_outside(random_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = RNG.integers(0, 256, (90, 131, 3), dtype=np.uint8)
    Image.fromarray(source).save(tmp_path / "in.png")
    mask = np.zeros((90, 131), np.uint8)
    mask[30:60, 40:90] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    common = ["edit", "--input", str(tmp_path / "in.png"), "--instruction", "x", "--output", str(tmp_path / "out.png"),
              "--steps", "1", "--device", "cpu", "--model", str(random_checkpoint)]  # fmt: skip
    assert main([*common, "--keep-outside", str(tmp_path / "mask.png"), "--feather", "4"]) == 0
    text = capsys.readouterr().out
    result = np.array(Image.open(tmp_path / "out.png"))
    assert (result[mask == 0] == source[mask == 0]).all() and (result[mask > 0] != source[mask > 0]).any()
    assert "% of the pixels are the source's" in text and "out.png (131x90)" in text
    for extra, words in ((["--feather", "4"], "--feather needs"), (["--keep-outside", "none.png"], "no such file")):
        assert main([*common, *extra]) == 2
        assert words in capsys.readouterr().err


def test_keep_outside_of_a_clip(random_pipe: Any, tmp_path: Path) -> None:
    """The automatic mask; a random model changes everything, so size and note are checked."""
    write_video(tmp_path / "in.mp4", RNG.integers(0, 256, (5, 90, 130, 3), dtype=np.uint8), 10)
    report = edit_file(
        random_pipe, tmp_path / "in.mp4", "x", output=tmp_path / "out.mp4", steps=1, keep_outside=KeepOutside()
    )
    assert report.size == (90, 130) and read_media(tmp_path / "out.mp4").frames_FHWC.shape == (5, 90, 130, 3)
    assert any("by the difference" in note and "compression" in note for note in report.notes)


def test_a_step_that_is_not_finite(random_pipe: Any, photo: Path, tmp_path: Path) -> None:
    calls: list[int] = []

    def spoil(_module: Any, _arguments: Any, output: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        calls.append(1)
        return (output[0] * float("nan"),) if len(calls) == 2 else output

    (tmp_path / "out.png").write_bytes(b"old")
    hook = random_pipe.transformer.register_forward_hook(spoil)
    try:
        with pytest.raises(InputError, match=r"not finite at step 1 .*bfloat16 or float32"):
            edit_file(random_pipe, photo, "x", output=tmp_path / "out.png", steps=3)
    finally:
        hook.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]
    assert (tmp_path / "out.png").read_bytes() == b"old"
