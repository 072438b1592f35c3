"""Several processes: sharing a list is a pure function; a split clip equals the whole one on two gloo processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from judge_server import scores, serve
from tiny import clip

from instructx_core.errors import InputError
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


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Two processes on this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0",
               "--rdzv_backend", "c10d", "--rdzv_endpoint", "localhost:0", *arguments]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_a_split_clip_equals_the_whole_one() -> None:
    done = torchrun(str(Path(__file__).with_name("parallel_worker.py")))
    assert done.returncode == 0 and "EQUAL" in done.stdout, done.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_edit_one_clip_from_the_command_line(tmp_path: Path, random_checkpoint: Path) -> None:
    """With a reference: 3 frames of 5 x 3 tokens, 45, do not divide by two. Written once, told once."""
    from instructx_core.cli import main
    from instructx_core.media.files import read_media, write_image, write_video

    frames = clip(5, 48, 80).numpy()
    write_video(tmp_path / "in.mp4", frames, 8)
    write_image(tmp_path / "picture.png", frames[0])
    common = ["edit", "--input", str(tmp_path / "in.mp4"), "--reference", str(tmp_path / "picture.png"), "--steps", "2",
              "--instruction", "x", "--model", str(random_checkpoint), "--device", "cpu"]  # fmt: skip
    done = torchrun("-m", "instructx_core", *common, "--output", str(tmp_path / "two.mp4"), "--split")
    assert done.returncode == 0 and done.stdout.count("written") == 1, done.stderr[-3000:]
    assert main([*common, "--output", str(tmp_path / "one.mp4"), "--attention", "off"]) == 0
    one, two = (read_media(tmp_path / name).frames_FHWC.astype(int) for name in ("one.mp4", "two.mp4"))
    difference = abs(one - two)  # of one rounding in a pixel H.264 can make a few levels in its block
    assert difference.mean() < 0.1 and difference.max() <= 16 and one.std() > 5
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.slow
def test_two_processes_go_on_with_a_long_clip(tmp_path: Path, random_checkpoint: Path) -> None:
    """Windows that one process finished before it was killed are handed to all: all go on at the same one."""
    from instructx_core.cli import main
    from instructx_core.editing.windows.state import windows_folder
    from instructx_core.media.files import read_media, write_video

    write_video(tmp_path / "in.mp4", clip(13, 48, 80).numpy(), 8)
    common = ["edit", "--input", str(tmp_path / "in.mp4"), "--steps", "2", "--instruction", "x", "--window", "5",
              "--model", str(random_checkpoint), "--device", "cpu"]  # fmt: skip
    whole = [*common, "--output", str(tmp_path / "one.mp4"), "--attention", "off"]
    assert main(whole) == 0
    (tmp_path / "one.mp4").rename(tmp_path / "whole.mp4")
    kill = (
        "import sys, os; from instructx_core.commands import edit; from instructx_core.cli import main; "
        "edit.tell_window = lambda *_: os._exit(9); main(sys.argv[1:])"
    )
    assert subprocess.run([sys.executable, "-c", kill, *whole], capture_output=True).returncode == 9
    windows_folder(tmp_path / "one.mp4").rename(windows_folder(tmp_path / "two.mp4"))
    done = torchrun("-m", "instructx_core", *common, "--output", str(tmp_path / "two.mp4"), "--split")
    assert done.returncode == 0 and done.stdout.count("written") == 1, done.stderr[-3000:]
    assert "edited in 4 windows" in done.stdout and "windows 1 to 1 were finished before and kept" in done.stdout
    one, two = (read_media(tmp_path / name).frames_FHWC.astype(int) for name in ("whole.mp4", "two.mp4"))
    assert one.shape == two.shape and abs(one - two).mean() < 0.1 and one.std() > 5
    left = sorted(path.name for path in tmp_path.iterdir() if path.name != ".one.mp4.lock")  # of the one that died
    assert left == ["in.mp4", "two.mp4", "whole.mp4"]


@pytest.mark.slow
def test_two_processes_make_each_of_several_seeds_and_one_judges(tmp_path: Path, random_checkpoint: Path) -> None:
    from instructx_core.cli import main
    from instructx_core.media.files import read_image, write_image

    write_image(tmp_path / "in.png", clip(1, 48, 80).numpy()[0])
    common = ["edit", "--input", str(tmp_path / "in.png"), "--steps", "2", "--instruction", "x",
              "--model", str(random_checkpoint), "--device", "cpu"]  # fmt: skip
    with serve(scores(2), scores(9)) as server:
        judge = ["--best-of", "2", "--judge", server.url, "--judge-model", "j", "--split"]
        done = torchrun("-m", "instructx_core", *common, *judge, "--output", str(tmp_path / "two.png"))
        assert done.returncode == 0 and len(server.seen) == 2, done.stderr[-3000:]
    assert done.stdout.count("seed 1 of 2 kept by j: seed 0 6.00, seed 1 8.33") == 1
    assert main([*common, "--seed", "1", "--output", str(tmp_path / "one.png"), "--attention", "off"]) == 0
    one, two = (read_image(tmp_path / name).astype(int) for name in ("one.png", "two.png"))
    assert abs(one - two).max() <= 2 and one.std() > 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png", "one.png", "two.png"]


def test_a_split_that_cannot_be_is_refused(
    tmp_path: Path, photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a model is loaded."""
    from instructx_core.cli import main

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
    from instructx_core.cli import main

    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text("".join(f'{{"input": "no{i}.png", "instruction": "x", "output": "o{i}.png"}}\n' for i in range(3)))
    for rank, lines in ((0, [1, 3]), (1, [2])):
        for name, value in {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank}.items():
            monkeypatch.setenv(name, str(value))
        assert main(["edit", "--jobs", str(jobs)]) == 1
        out = capsys.readouterr().out
        assert f"{len(lines)} jobs: 0 done, 0 skipped, {len(lines)} failed" in out
        assert all((f"o{i - 1}.png" in out or f"no{i - 1}.png" in out) == (i in lines) for i in (1, 2, 3))
