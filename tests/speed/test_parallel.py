"""Several processes: sharing a list is a pure function; a split clip equals the whole one on two gloo processes.

parallel_worker.py is what each of the two does: the split model against the whole one, then the command lines.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from judge_server import scores, serve
from tiny import clip

from instructx_core.cli import main
from instructx_core.commands import edit as edit_verb
from instructx_core.editing.windows.state import windows_folder
from instructx_core.errors import InputError
from instructx_core.media.files import read_image, read_media, write_image, write_video
from instructx_core.speed.parallel import Place, place_of, share


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_every_item_goes_to_one_process(world: int) -> None:
    items = list(range(5))
    parts = [share(items, Place(rank, world, rank)) for rank in range(world)]
    assert sorted(item for part in parts for item in part) == items and max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_place_comes_from_torchrun() -> None:
    assert place_of({}) == Place(0, 1, 0)
    assert place_of({"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}) == Place(5, 8, 1)
    for wrong in ({"WORLD_SIZE": "2"}, {"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}):
        with pytest.raises(InputError, match="torchrun"):
            place_of(wrong)


def edit(source: Path, output: Path, checkpoint: Path, *options: str) -> list[str]:
    common = ["edit", "--input", str(source), "--output", str(output), "--steps", "2", "--instruction", "x"]
    return [*common, "--model", str(checkpoint), "--device", "cpu", *options]


@dataclass
class Launch:
    """Tokens of a split sample that each process computed; what both did with each command line: exit codes and what
    they said together; requests to the judge."""

    folder: Path
    tokens: list[int]
    codes: dict[str, list[int]]
    outputs: dict[str, str]
    asked: int


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory, random_checkpoint: Path) -> Launch:
    """Two processes on this machine, which torchrun starts once: a clip with a reference, a long clip of which one
    window was finished before an interrupt, and a picture in two seeds."""
    folder = tmp_path_factory.mktemp("launch")
    for name in ("clip", "long", "seeds"):
        (folder / name).mkdir()
    frames = clip(13, 48, 80).numpy()
    write_video(folder / "clip" / "in.mp4", frames[:5], 8)
    write_image(folder / "clip" / "picture.png", frames[0])
    write_video(folder / "long" / "in.mp4", frames, 8)
    write_image(folder / "seeds" / "in.png", frames[0])
    stop_in_a_window(folder / "long", random_checkpoint)
    with serve(scores(2), scores(9)) as server:
        lines = {
            name: edit(
                folder / name / source, folder / name / f"two{Path(source).suffix}", random_checkpoint, "--split", *more
            )
            for name, source, more in (
                ("clip", "in.mp4", ("--reference", str(folder / "clip" / "picture.png"))),
                ("long", "in.mp4", ("--window", "5")),
                ("seeds", "in.png", ("--best-of", "2", "--judge", server.url, "--judge-model", "j")),
            )
        }
        given = json.dumps([[free_port(), line] for line in lines.values()])
        done = torchrun(str(Path(__file__).with_name("parallel_worker.py")), str(folder), given)
        assert done.returncode == 0, done.stderr[-3000:]
        ranks = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]
        codes = {name: [rank[number][0] for rank in ranks] for number, name in enumerate(lines, 1)}
        outputs = {name: "".join(rank[number][1] for rank in ranks) for number, name in enumerate(lines, 1)}
        return Launch(folder, [rank[0] for rank in ranks], codes, outputs, len(server.seen))


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0",
               "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0", *arguments]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def stop_in_a_window(folder: Path, checkpoint: Path) -> None:
    """The whole edit by one process; then again, interrupted after a window, whose files are left for two.mp4."""
    whole = edit(folder / "in.mp4", folder / "one.mp4", checkpoint, "--window", "5", "--attention", "off")
    assert main(whole) == 0
    (folder / "one.mp4").rename(folder / "whole.mp4")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edit_verb, "tell_window", interrupt)
        assert main(whole) == 130
    windows_folder(folder / "one.mp4").rename(windows_folder(folder / "two.mp4"))


@pytest.mark.slow
def test_a_split_clip_equals_the_whole_one(launch: Launch) -> None:
    assert launch.tokens == [14, 13]


@pytest.mark.slow
def test_two_processes_edit_one_clip_from_the_command_line(launch: Launch, random_checkpoint: Path) -> None:
    """With a reference: 3 frames of 5 x 3 tokens, 45, do not divide by two. Written once, told once."""
    folder = launch.folder / "clip"
    assert launch.codes["clip"] == [0, 0] and launch.outputs["clip"].count("written") == 1
    alone = ("--reference", str(folder / "picture.png"), "--attention", "off")
    assert main(edit(folder / "in.mp4", folder / "one.mp4", random_checkpoint, *alone)) == 0
    one, two = (read_media(folder / name).frames_FHWC.astype(int) for name in ("one.mp4", "two.mp4"))
    difference = abs(one - two)  # of one rounding in a pixel H.264 can make a few levels in its block
    assert difference.mean() < 0.1 and difference.max() <= 16 and one.std() > 5
    assert len(list(folder.iterdir())) == 4


@pytest.mark.slow
def test_two_processes_go_on_with_a_long_clip(launch: Launch) -> None:
    """Windows that one process finished before it was stopped are handed to all: all go on at the same one."""
    folder, said = launch.folder / "long", launch.outputs["long"]
    assert launch.codes["long"] == [0, 0] and said.count("written") == 1
    assert "edited in 4 windows" in said and "windows 1 to 1 were finished before and kept" in said
    one, two = (read_media(folder / name).frames_FHWC.astype(int) for name in ("whole.mp4", "two.mp4"))
    assert one.shape == two.shape and abs(one - two).mean() < 0.1 and one.std() > 5
    assert sorted(path.name for path in folder.iterdir()) == ["in.mp4", "two.mp4", "whole.mp4"]


@pytest.mark.slow
def test_two_processes_make_each_of_several_seeds_and_one_judges(launch: Launch, random_checkpoint: Path) -> None:
    folder, said = launch.folder / "seeds", launch.outputs["seeds"]
    assert launch.codes["seeds"] == [0, 0] and launch.asked == 2
    assert said.count("seed 1 of 2 kept by j: seed 0 6.00, seed 1 8.33") == 1
    line = edit(folder / "in.png", folder / "one.png", random_checkpoint, "--seed", "1", "--attention", "off")
    assert main(line) == 0
    one, two = (read_image(folder / name).astype(int) for name in ("one.png", "two.png"))
    assert abs(one - two).max() <= 2 and one.std() > 5
    assert sorted(path.name for path in folder.iterdir()) == ["in.png", "one.png", "two.png"]


def test_a_split_that_cannot_be_is_refused(
    tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a model is loaded."""
    common = ["edit", "--input", str(photo), "--instruction", "x", "--output", str(tmp_path / "o.png"), "--split"]
    assert main(common) == 2 and "start with torchrun" in capsys.readouterr().err
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    for extra, words in (
        (["--cache", "mag"], "--split with --cache"),
        (["--offload", "group", "--compile"], "--split with --compile, --offload"),
    ):
        assert main([*common, *extra]) == 2 and words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_list_of_jobs_is_shared_under_torchrun(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """No line can be run here, so no model is loaded; what counts is who takes which."""
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text("".join(f'{{"input": "no{i}.png", "instruction": "x", "output": "o{i}.png"}}\n' for i in range(3)))
    for rank, lines in ((0, [1, 3]), (1, [2])):
        for name, value in {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank}.items():
            monkeypatch.setenv(name, str(value))
        assert main(["edit", "--jobs", str(jobs)]) == 1
        out = capsys.readouterr().out
        assert f"{len(lines)} jobs: 0 done, 0 skipped, {len(lines)} failed" in out
        assert all((f"o{i - 1}.png" in out or f"no{i - 1}.png" in out) == (i in lines) for i in (1, 2, 3))
