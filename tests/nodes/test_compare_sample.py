"""Nodes Compare and Sample on the host's own classes: what they write, say and refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from instructx_core.shapes import TASKS, sample


@pytest.fixture
def temp(comfy: Path, tmp_path: Path) -> Path:
    import folder_paths

    before = folder_paths.get_temp_directory()
    folder_paths.set_temp_directory(str(tmp_path))
    yield tmp_path
    folder_paths.set_temp_directory(before)


@pytest.fixture
def compare(pack: Callable[[str], ModuleType], temp: Path) -> Callable[..., dict[str, Any]]:
    """compare(before, after, ...) -> the node's ui."""
    node = pack("nodes.compare").InstructXCompare

    def run(before: Any, after: Any, **given: Any) -> dict[str, Any]:
        return node.execute(before, after, **{"batch": "video", "fps": 16.0, **given}).ui

    node.hidden = type("Hidden", (), {"prompt": None, "extra_pnginfo": None})
    return run


def clip(frames: int = 5, height: int = 32, width: int = 48) -> torch.Tensor:
    return torch.linspace(0, 1, frames * height * width * 3).reshape(frames, height, width, 3)


def video(frames: int = 5, rate: int = 24, height: int = 32, width: int = 48) -> Any:
    from fractions import Fraction

    from comfy_api.input_impl import VideoFromComponents
    from comfy_api.util import VideoComponents

    return VideoFromComponents(
        VideoComponents(images=clip(frames, height, width), audio=None, frame_rate=Fraction(rate))
    )


def test_plain_previews_without_the_extension(compare: Any, temp: Path) -> None:
    ui = compare(clip(1), clip(1))
    assert ui["animated"] == (False,) and "instructx_compare" not in ui
    assert [record["type"] for record in ui["images"]] == ["temp", "temp"]
    assert all((temp / record["filename"]).is_file() for record in ui["images"])


def test_one_record_for_the_extension(compare: Any) -> None:
    ui = compare(clip(1), clip(1), view="slider")
    assert list(ui) == ["instructx_compare"], "`images` too would draw both again under the slider"
    (shown,) = ui["instructx_compare"]
    assert shown["kind"] == "pictures" and len(shown["before"]) == len(shown["after"]) == 1


def test_batches_play_at_the_nodes_speed(compare: Any, temp: Path) -> None:
    import av

    (shown,) = compare(clip(5), clip(9), fps=12.0, view="slider")["instructx_compare"]
    assert (shown["kind"], shown["fps"], shown["frames"]) == ("video", 12.0, [5, 9])
    with av.open(str(temp / shown["after"][0]["filename"])) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate, stream.frames) == ("h264", 12, 9)


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_video_brings_its_speed(compare: Any, side: str) -> None:
    pair = {"before": clip(5), "after": clip(5), side: video(5, 24)}
    (shown,) = compare(**pair, view="slider")["instructx_compare"]
    assert shown["fps"] == 24.0 and shown["frames"] == [5, 5]


def test_batches_of_pictures(compare: Any) -> None:
    (shown,) = compare(clip(1), clip(3), batch="pictures", view="slider")["instructx_compare"]
    assert (len(shown["before"]), len(shown["after"])) == (1, 3)


@pytest.mark.parametrize("as_video", [False, True])
def test_odd_sizes_play(compare: Any, temp: Path, as_video: bool) -> None:
    """The pack's own padding gives odd sizes back; H.264 takes none, so the preview repeats a row and a column."""
    import av

    side = video(5, 24, 33, 47) if as_video else clip(5, 33, 47)
    (shown,) = compare(side, clip(5, 33, 47), view="slider")["instructx_compare"]
    for name in ("before", "after"):
        with av.open(str(temp / shown[name][0]["filename"])) as container:
            first = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)
        assert first.shape == (34, 48, 3)
        want = np.pad((clip(5, 33, 47)[0].numpy() * 255), ((0, 1), (0, 1), (0, 0)), mode="edge")
        assert np.abs(first - want).mean() < 4


@pytest.mark.parametrize(
    ("before", "after", "given", "message"),
    [
        (lambda: video(), lambda: clip(1), {}, "before is a video and after a picture"),
        (lambda: clip(2), lambda: clip(3), {"batch": "pictures"}, "before has 2 pictures and after 3"),
        (lambda: clip(1), lambda: clip(0), {}, "after has shape .* connect an IMAGE with at least one picture"),
        (lambda: clip(2)[..., :1], lambda: clip(2), {}, r"before has 1 channel\(s\)"),
        (lambda: clip(2), lambda: clip(2), {"fps": 0.0}, "fps is 0.0; it must be a number from 1.0 to 120.0"),
        (lambda: clip(2), lambda: clip(2), {"batch": "film"}, "batch is 'film'; use one of video, pictures"),
    ],
)
def test_refusals_name_the_remedy(compare: Any, before: Any, after: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare(before(), after(), **given)


def test_sample_is_the_benchmarks(pack: Callable[[str], ModuleType], temp: Path) -> None:
    node = pack("nodes.sample")
    assert node.EDITS == TASKS
    source, instruction, reference, truth, fps = node.InstructXSample.execute("video", "color", 5).args
    drawn = sample("test", 5, "video", "color")
    assert (instruction, reference, fps) == (drawn.instruction, None, 16.0)
    for image, frames in ((source, drawn.source_FHWC), (truth, drawn.target_FHWC)):
        assert image.dtype == torch.float32
        assert np.array_equal((image * 255).round().byte().numpy(), frames)


def test_sample_gives_a_reference_and_shows_it(pack: Callable[[str], ModuleType], temp: Path) -> None:
    result = pack("nodes.sample").InstructXSample.execute("image", "reference_swap", 1)
    assert result.args[2].shape == (1, 64, 64, 3)
    assert result.ui["text"] == [f"asks: {result.args[1]}"]
    shown = [np.array(Image.open(temp / record["filename"]).convert("RGB")) for record in result.ui["images"]]
    for picture, image in zip(shown, (result.args[0], result.args[2]), strict=True):
        assert np.abs(picture - image[0].numpy() * 255).max() <= 1
