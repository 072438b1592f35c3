"""edit_file: geometry, length, fps and audio, reports, errors before anything is written. Random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from instructx_core.editing.edit import edit_file
from instructx_core.editing.fit import apply_box, pad_clip
from instructx_core.errors import InputError
from instructx_core.geometry import fit_size
from instructx_core.media.files import read_image, read_media, write_image, write_video


def test_photo(random_pipe: Any, photo: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.png"
    steps: list[tuple[int, int]] = []
    report = edit_file(
        random_pipe, photo, "make the cup red", output=output, steps=2, progress=lambda i, n: steps.append((i, n))
    )
    assert steps == [(1, 2), (2, 2)]
    assert report.source_size == (400, 600) and report.size == (48, 64), "one scale for both axes, then a cut"
    assert read_image(output).shape == (48, 64, 3)
    text = "\n".join(report.lines())
    assert "600x400 -> 64x48" in text and "cut" in text and "trained on 64x64" in text
    assert set(report.seconds) == {"read", "edit", "write"}


def test_clip_with_audio(random_pipe: Any, bunny: Path, tmp_path: Path) -> None:
    """132 frames: padded to 133, trimmed back; 25 fps and the sound stay."""
    output = tmp_path / "out.mp4"
    report = edit_file(random_pipe, bunny, "make it dark", output=output, steps=1, max_pixels=32 * 32, max_frames=132)
    assert (report.frames_in, report.frames_padded) == (132, 133)
    assert any("trimmed back to 132" in line for line in report.lines())
    back = read_media(output)
    assert back.fps == 25 and len(back.frames_FHWC) == 132 and back.audio is not None
    with av.open(str(output)) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.name == "aac"
        assert abs(float(stream.duration * stream.time_base) - 5.28) < 0.1


def test_seed_decides(random_pipe: Any, photo: Path, tmp_path: Path) -> None:
    def once(name: str, seed: int) -> np.ndarray:
        edit_file(random_pipe, photo, "x", output=tmp_path / name, steps=2, seed=seed)
        return read_image(tmp_path / name)

    first, again, other = once("a.png", 1), once("b.png", 1), once("c.png", 2)
    assert (first == again).all() and (first != other).any()


def test_reference_is_used(random_pipe: Any, photo: Path, gray_photo: Path, tmp_path: Path) -> None:
    plain = edit_file(random_pipe, photo, "add this", output=tmp_path / "a.png", steps=2)
    both = edit_file(random_pipe, photo, "add this", [gray_photo], output=tmp_path / "b.png", steps=2)
    assert (plain.references, both.references) == (0, 1)
    assert (read_image(tmp_path / "a.png") != read_image(tmp_path / "b.png")).any()


def test_box_keeps_proportions() -> None:
    """A circle stays a circle: after the cut its width and height are equal to a pixel."""
    yy, xx = np.mgrid[:300, :500]
    circle = ((yy - 150) ** 2 + (xx - 250) ** 2 < 100**2)[..., None].repeat(3, axis=2).astype(np.uint8) * 255
    box = fit_size(300, 500, 16, 96 * 96)
    small = apply_box(circle, box)
    assert small.shape == (box.height, box.width, 3)
    lit = small[..., 0] > 127
    assert abs(int(lit.any(1).sum()) - int(lit.any(0).sum())) <= 1
    same = np.zeros((64, 64, 3), np.uint8)
    assert apply_box(same, fit_size(64, 64, 16, 64 * 64)) is same


@pytest.mark.parametrize(("length", "padded"), [(1, 1), (2, 5), (5, 5), (17, 17), (18, 21)])
def test_pad_clip_repeats_the_last_frame(length: int, padded: int) -> None:
    frames = np.arange(length, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    result = pad_clip(frames)
    assert len(result) == padded and (result[:length] == frames).all() and (result[length:] == length - 1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instruction": "  "}, "instruction is empty"),
        ({"steps": 0}, "steps is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"output": "out.mp4"}, "source is an image and the output a video"),
        ({"output": "out.xyz"}, "unknown output suffix"),
        ({"max_pixels": 10}, "cannot be fitted"),
        ({"references": ["missing.png"]}, "no such file"),
    ],
)
def test_bad_requests_write_nothing(
    random_pipe: Any, photo: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    request: dict[str, Any] = {"source": photo, "instruction": "x", "output": "out.png", "steps": 1, **change}
    request["output"] = tmp_path / request["output"]
    with pytest.raises(InputError, match=message):
        edit_file(random_pipe, **request)
    assert not list(tmp_path.iterdir())


def test_too_small_and_too_long(random_pipe: Any, tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    with pytest.raises(InputError, match="1x1 picture cannot be fitted"):
        edit_file(random_pipe, tmp_path / "dot.png", "x", output=tmp_path / "o.png")
    write_video(tmp_path / "six.mp4", np.zeros((6, 32, 32, 3), np.uint8), 10)
    with pytest.raises(InputError, match="more than 5 frames"):
        edit_file(random_pipe, tmp_path / "six.mp4", "x", output=tmp_path / "o.mp4", max_frames=5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dot.png", "six.mp4"]


def test_nan_weights_are_an_input_error_and_keep_the_old_file(random_pipe: Any, photo: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.png"
    write_image(output, np.zeros((4, 4, 3), np.uint8))
    before = output.read_bytes()
    weight = next(random_pipe.transformer.parameters())
    saved = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(float("nan"))
    try:
        with pytest.raises(InputError, match="not finite"):
            edit_file(random_pipe, photo, "x", output=output, steps=1)
    finally:
        with torch.no_grad():
            weight.copy_(saved)
    assert output.read_bytes() == before


def test_a_report_tells_of_its_own_edit(random_pipe: Any, photo: Path, tmp_path: Path) -> None:
    """What memory made of an earlier edit stands in that edit's report only; what holds for both is said in both."""
    memory, run = random_pipe.memory, random_pipe.within_memory
    once, both = "tried again in tiles", "the VAE runs in tiles"

    def tells(stage: str, sampled: Any) -> Any:
        memory.say(both)
        return run(stage, sampled)

    memory.say(once)
    random_pipe.within_memory = tells
    try:
        reports = [edit_file(random_pipe, photo, "x", output=tmp_path / "out.png", steps=1) for _ in range(2)]
    finally:
        del random_pipe.within_memory
        memory.notes.clear()
    assert [(once in report.notes, report.notes.count(both)) for report in reports] == [(False, 1), (False, 1)]
