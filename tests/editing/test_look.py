"""A look at the files: each is opened and decoded once in a whole edit, a clip too large to be kept once more to be
edited; what is wrong is said without a model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sounds import write_clip

from instructx_core.editing.edit import edit
from instructx_core.editing.look import look_at
from instructx_core.editing.paste import KeepOutside
from instructx_core.editing.request import EditRequest
from instructx_core.editing.windows.options import WindowOptions
from instructx_core.errors import InputError
from instructx_core.media import images, stream
from instructx_core.media.clip import container
from instructx_core.media.clip.video import FrameReader
from instructx_core.media.files import write_image, write_video
from instructx_core.media.stream import ClipScan

RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("in.png", "cup.png", "mask.png"):
        write_image(tmp_path / name, RNG.integers(1, 256, (48, 64, 3), dtype=np.uint8))
    write_video(tmp_path / "in.mp4", RNG.integers(0, 256, (9, 48, 64, 3), dtype=np.uint8), 8)
    return tmp_path


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many pictures and frames were decoded, by file, and how often each was opened."""
    seen: Counter[str] = Counter()
    read_picture, read_frames, open_picture = images.decode_image, container.decode_frames, Image.open
    convert = FrameReader.upright

    def count_picture(path: Path, *arguments: Any) -> Any:
        seen[path.name] += 1
        return read_picture(path, *arguments)

    def count_frames(path: Path, *arguments: Any) -> Any:
        for frame in read_frames(path, *arguments):
            seen[path.name] += 1
            yield frame

    def count_opened(path: Path, *arguments: Any) -> Any:
        seen[f"{path.name} opened"] += 1
        return open_picture(path, *arguments)

    def count_converted(reader: FrameReader, *arguments: Any) -> Any:
        seen["converted"] += 1
        return convert(reader, *arguments)

    monkeypatch.setattr(FrameReader, "upright", count_converted)
    monkeypatch.setattr(images, "decode_image", count_picture)
    monkeypatch.setattr(stream, "decode_frames", count_frames)
    monkeypatch.setattr(Image, "open", count_opened)
    return seen


def request(folder: Path, suffix: str, **options: Any) -> EditRequest:
    return EditRequest(
        source=folder / f"in{suffix}",
        instruction="x",
        output=folder / f"out{suffix}",
        references=(folder / "cup.png",),
        steps=1,
        keep_outside=KeepOutside(folder / "mask.png"),
        **options,
    )


def test_an_image_is_decoded_once(random_pipe: Any, folder: Path, decoded: Counter[str]) -> None:
    look = look_at(request(folder, ".png"))
    assert (look.modality, look.frames, len(look.references)) == ("image", 1, 1)
    edit(random_pipe, look)
    names = ("in.png", "cup.png", "mask.png")
    assert decoded == dict.fromkeys((*names, *(f"{name} opened" for name in names)), 1)


def test_a_clip_in_one_piece_is_decoded_once(random_pipe: Any, folder: Path, decoded: Counter[str]) -> None:
    look = look_at(request(folder, ".mp4"))
    assert (look.modality, look.frames) == ("video", 9)
    edit(random_pipe, look)
    assert (decoded["in.mp4"], decoded["cup.png"], decoded["mask.png"]) == (9, 1, 1)
    assert decoded["converted"] == 9, "the frames laid under the edit are those that it was given"
    assert isinstance(look.source, ClipScan) and not look.source.kept, "while the model runs they take no memory"


def test_a_long_clip_is_scanned_once_and_then_streamed(
    random_pipe: Any, folder: Path, decoded: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "KEPT_BYTES", 0)
    options = {"windows": WindowOptions(frames=5)}
    look = look_at(request(folder, ".mp4", **options))
    assert isinstance(look.source, ClipScan) and not look.source.kept and decoded["in.mp4"] == 9
    edit(random_pipe, look)
    assert decoded["in.mp4"] == 18, "to be edited"
    assert decoded["converted"] == 9, "the frames laid under the edit are those that it was given"


def test_what_becomes_of_pictures_is_said_without_a_model(folder: Path) -> None:
    """Of the source, its transparency in an output that has none, and the references."""
    Image.fromarray(RNG.integers(0, 200, (48, 64, 4), dtype=np.uint8)).save(folder / "in.png")
    Image.fromarray(RNG.integers(0, 200, (48, 64), dtype=np.uint8)).save(folder / "cup.png")
    given: dict[str, Any] = {"source": folder / "in.png", "output": folder / "out.jpg"}
    look = look_at(EditRequest(instruction="x", references=(folder / "cup.png",), **given))
    assert look.notes == (
        "transparent: the model sees it over white (it knows no alpha)",
        "the source's transparency is lost: .jpg has none, write a .png to keep it",
        "reference cup.png: gray repeated over R, G, B",
    )


@pytest.mark.parametrize(
    ("suffix", "change", "message"),
    [
        (".png", {"output": "out.mp4"}, "source is an image and the output a video"),
        (".mp4", {"output": "out.png"}, "source is a video and the output an image"),
        (".png", {"output": "out.xyz"}, "unknown output suffix"),
        (".png", {"references": ["gone.png"]}, "gone.png: no such file"),
        (".png", {"references": ["in.mp4"]}, "this is a video or an animation; give an image here"),
        (".png", {"keep_outside": "black.png"}, "black everywhere"),
        (".mp4", {"source": "odd.mkv"}, "63x48 cannot be written at its own size"),
        (".mp4", {"max_frames": 8}, "more than 8 frames"),
    ],
)
def test_what_is_wrong_is_said_without_a_model(folder: Path, suffix: str, change: dict[str, Any], message: str) -> None:
    Image.new("RGB", (64, 48)).save(folder / "black.png")
    _write_odd(folder / "odd.mkv")
    given: dict[str, Any] = {
        "source": folder / f"in{suffix}", "instruction": "x", "output": folder / f"out{suffix}",
        "keep_outside": KeepOutside(),
    }  # fmt: skip
    for name, value in change.items():
        if name == "keep_outside":
            given[name] = KeepOutside(folder / value)
        elif name == "references":
            given[name] = tuple(folder / path for path in value)
        else:
            given[name] = value if name == "max_frames" else folder / value
    with pytest.raises(InputError, match=message):
        look_at(EditRequest(**given))


def test_what_becomes_of_the_sound_is_known_without_a_model(tmp_path: Path) -> None:
    """For this output: sixteen channels go into .mov, but not into .mp4, which is refused where they are needed."""
    clip = write_clip(tmp_path / "in.mov", layouts=("16C",))
    given: dict[str, Any] = {"source": clip, "instruction": "x", "need_sound": True}
    assert look_at(EditRequest(output=tmp_path / "a.mov", **given)).notes[-1] == "audio (pcm_s16le) copied"
    with pytest.raises(InputError, match=r"in\.mov: audio \(pcm_s16le\) left out: few players know it in \.mp4"):
        look_at(EditRequest(output=tmp_path / "a.mp4", **given))
    given["need_sound"] = False
    assert "left out" in look_at(EditRequest(output=tmp_path / "a.mp4", **given)).notes[-1]


def _write_odd(path: Path) -> None:
    """A clip of 63x48 pixels."""
    import av

    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("ffv1", rate=8)
        video.width, video.height, video.pix_fmt = 63, 48, "yuv444p"
        for _ in range(3):
            out.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((48, 63, 3), np.uint8), format="rgb24")))
        out.mux(video.encode(None))
