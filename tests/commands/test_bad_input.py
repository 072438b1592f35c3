"""Bad input, as a person meets it: one line on stderr (after what was loaded), exit code 2, no file.

Every case goes through `main` in this process, whose stderr is read below Python; one at each depth is a process.
"""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from instructx_core.cli import main
from instructx_core.config import InstructXConfig, kiwi_5b, tiny


@dataclass
class Case:
    """Arguments after `instructx`, and words the message must hold."""

    arguments: list[str]
    words: tuple[str, ...]


class Place:
    """A folder with a good picture and a private copy of a checkpoint that a case may break."""

    def __init__(self, folder: Path, checkpoint: Path, bunny: Path) -> None:
        self.folder, self.bunny = folder, bunny
        self.model = folder / "model"
        shutil.copytree(checkpoint, self.model)
        Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(folder / "good.png")

    def file(self, name: str, data: bytes) -> str:
        (self.folder / name).write_bytes(data)
        return str(self.folder / name)

    def part(self, sub: str) -> Path:
        return next((self.model / sub).glob("*.safetensors"))

    def rewrite(
        self, sub: str, change: Callable[[dict[str, torch.Tensor]], None], config: InstructXConfig | None = None
    ):
        """Change tensors of one file, or the config it carries."""
        path = self.part(sub)
        with safe_open(str(path), framework="pt") as handle:
            metadata = handle.metadata()
        tensors = load_file(path)
        change(tensors)
        if config is not None:
            metadata["instructx"] = config.to_json()
        save_file(tensors, path, metadata=metadata)

    def edit(self, **change: str) -> list[str]:
        options = {"input": str(self.folder / "good.png"), "instruction": "make it red", "model": str(self.model),
                   "output": str(self.folder / "out.png"), "steps": "1", "device": "cpu", **change}  # fmt: skip
        return ["edit", *(part for key, value in options.items() for part in (f"--{key.replace('_', '-')}", value))]


def missing_file(place: Place) -> Case:
    return Case(place.edit(input=str(place.folder / "none.png")), ("none.png", "no such file"))


def corrupt_image(place: Place) -> Case:
    data = (place.folder / "good.png").read_bytes()[:80]
    return Case(place.edit(input=place.file("half.png", data)), ("half.png", "damaged"))


def corrupt_video(place: Place) -> Case:
    data = place.bunny.read_bytes()[:200_000]
    return Case(place.edit(input=place.file("half.mp4", data), output=str(place.folder / "o.mp4")), ("half.mp4",))


def text_as_video(place: Place) -> Case:
    return Case(place.edit(input=place.file("text.mp4", b"no video " * 99)), ("text.mp4", "no picture and no clip"))


def empty_file(place: Place) -> Case:
    return Case(place.edit(input=place.file("empty.png", b"")), ("0 bytes",))


def no_frames(place: Place) -> Case:
    """A valid container that holds sound only."""
    import av

    path = place.folder / "sound.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48000, 0
        stream.layout = "mono"
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return Case(place.edit(input=str(path), output=str(place.folder / "o.mp4")), ("no video stream",))


def one_pixel(place: Place) -> Case:
    Image.new("RGB", (1, 1)).save(place.folder / "dot.png")
    return Case(place.edit(input=str(place.folder / "dot.png")), ("1x1", "at least 16"))


def wrong_channels(place: Place) -> Case:
    Image.fromarray(np.ones((64, 64), np.float32)).save(place.folder / "depth.tif")
    return Case(place.edit(input=str(place.folder / "depth.tif")), ("float numbers", "8 or 16 bits"))


def empty_instruction(place: Place) -> Case:
    return Case(place.edit(instruction=" "), ("instruction is empty",))


def bad_size(place: Place) -> Case:
    return Case(place.edit(size="big"), ("--size", "WIDTHxHEIGHT"))


def output_kind(place: Place) -> Case:
    return Case(place.edit(output=str(place.folder / "out.mp4")), ("source is an image",))


def output_folder(place: Place) -> Case:
    return Case(place.edit(output=str(place.folder / "nowhere" / "out.png")), ("does not exist",))


def bad_reference(place: Place) -> Case:
    return Case(place.edit(reference=place.file("ref.png", b"junk" * 30)), ("ref.png",))


def bad_device(place: Place) -> Case:
    return Case(place.edit(device="abacus"), ("abacus",))


def no_checkpoint(place: Place) -> Case:
    return Case(place.edit(model=str(place.folder / "absent")), ("absent", "no such checkpoint"))


def nan_weights(place: Place) -> Case:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        next(iter(tensors.values())).view(-1)[0] = float("nan")

    place.rewrite("diffusion_models", spoil)
    return Case(place.edit(), ("NaN",))


def other_profile(place: Place) -> Case:
    place.rewrite("model_patches", lambda tensors: None, kiwi_5b())
    return Case(place.edit(), ("kiwi",))


def other_size(place: Place) -> Case:
    place.rewrite("diffusion_models", lambda tensors: None, tiny())
    return Case(place.edit(), ("num_layers",))


def missing_tensor(place: Place) -> Case:
    def drop(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["time_embedding.0.weight"]

    place.rewrite("diffusion_models", drop)
    return Case(place.edit(), ("time_embedding.0.weight", "missing"))


def missing_part(place: Place) -> Case:
    place.part("vae").unlink()
    return Case(place.edit(), ("vae",))


def truncated_weights(place: Place) -> Case:
    path = place.part("text_encoders")
    path.write_bytes(path.read_bytes()[:-1000])
    return Case(place.edit(), (path.name, "incomplete"))


def pickle_model(place: Place) -> Case:
    path = place.file("model.pt", pickle.dumps({"weight": 1}))
    return Case(place.edit(model=path), ("model.pt", "pickle"))


def pickle_in_disguise(place: Place) -> Case:
    place.part("diffusion_models").write_bytes(pickle.dumps({"weight": 1}) * 20)
    return Case(place.edit(), ("pickle", "under another name"))


def reuse_is_a_file(place: Place) -> Case:
    """Said before the model is loaded, of which no part is there."""
    words = ("taken", "is a file, not a folder")
    return Case(place.edit(reuse=place.file("taken", b""), model=str(place.folder)), words)


def training_into_a_file(place: Place) -> Case:
    arguments = ["train", "tiny_vae", "--steps", "1", "--output", place.file("taken", b"")]
    return Case(arguments, ("taken is a file, not a folder",))


def a_cache_for_a_batch(place: Place) -> Case:
    words = ("--cache first-block", "--batch-size 1")
    return Case(["eval", "shapes", "--json", str(place.folder / "x.json"), "--cache", "first-block"], words)


CASES = [
    reuse_is_a_file, training_into_a_file, a_cache_for_a_batch,
    missing_file, corrupt_image, corrupt_video, text_as_video, empty_file, no_frames, one_pixel, wrong_channels,
    empty_instruction, bad_size, output_kind, output_folder, bad_reference, bad_device, no_checkpoint, nan_weights,
    other_profile, other_size, missing_tensor, missing_part, truncated_weights, pickle_model, pickle_in_disguise,
]  # fmt: skip


AS_A_PROCESS = [missing_file, nan_weights]  # refused before a model is loaded, and after


@pytest.fixture
def place(random_checkpoint: Path, bunny: Path, tmp_path: Path) -> Place:
    return Place(tmp_path, random_checkpoint, bunny)


def files(place: Place) -> set[str]:
    return {path.relative_to(place.folder).as_posix() for path in place.folder.rglob("*")}


def is_one_line(code: int, out: str, err: str, words: tuple[str, ...]) -> None:
    assert code == 2, err
    *loaded, error = err.rstrip().splitlines()
    assert all("tensors consumed" in line or line.startswith("  ") for line in loaded), err
    assert error.startswith("error: "), err
    for word in words:
        assert word in error, error
    assert out == ""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_one_line_exit_2_no_output(
    case: Callable[[Place], Case], place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    wanted = case(place)
    before = files(place)
    capfd.readouterr()  # of the libraries that made the case
    code = main(wanted.arguments)
    is_one_line(code, *capfd.readouterr(), wanted.words)
    assert files(place) == before, "nothing was written"


@pytest.mark.parametrize("case", AS_A_PROCESS, ids=lambda case: case.__name__)
def test_a_process_ends_like_it(case: Callable[[Place], Case], place: Place) -> None:
    wanted = case(place)
    before = files(place)
    command = [sys.executable, "-m", "instructx_core", *wanted.arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    is_one_line(done.returncode, done.stdout, done.stderr, wanted.words)
    assert files(place) == before, "nothing was written"
