"""Long edits from file to file: length, rate, sound, hand-over, resuming after a kill, refusals. Random weights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from instructx_core.cli import main
from instructx_core.editing import in_windows
from instructx_core.editing.edit import edit_file
from instructx_core.editing.paste import KeepOutside
from instructx_core.editing.piece import Piece, edit_piece
from instructx_core.editing.settings import Sampling
from instructx_core.editing.windows import WindowResult
from instructx_core.editing.windows.handover import fade_out
from instructx_core.editing.windows.options import WindowOptions
from instructx_core.errors import InputError
from instructx_core.media.encode import write_frames
from instructx_core.media.files import read_media, write_image, write_video
from instructx_core.media.stream import scan_clip

NINE = WindowOptions(frames=9)


def moving(count: int) -> np.ndarray:
    y, x = np.mgrid[:32, :32]
    return np.stack([np.stack([x * 3 + 5 * i, y * 4, x + y + 7 * i], -1) % 256 for i in range(count)]).astype(np.uint8)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    write_video(path, moving(22), Fraction(24000, 1001))
    return path


@pytest.fixture(scope="module")
def pipe(random_checkpoint: Path) -> Any:
    """The random model as another process reads it from disk."""
    from instructx_core.weights import load_pipeline

    pipe = load_pipeline(random_checkpoint, device="cpu")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def edit(pipe: Any, clip: Path, output: Path, **options: Any) -> Any:
    request = {"steps": 2, "windows": NINE, "seed": 5, **options}
    return edit_file(pipe, clip, "make it dark", output=output, **request)


def test_length_rate_and_sound_stay(random_pipe: Any, bunny: Path, tmp_path: Path) -> None:
    sound = scan_clip(bunny).audio
    source, output = tmp_path / "clip.mp4", tmp_path / "out.mp4"
    write_video(source, moving(22), Fraction(24000, 1001), audio=sound)
    steps: list[tuple[int, int]] = []
    report = edit(random_pipe, source, output, progress=lambda done, total: steps.append((done, total)))
    back = read_media(output)
    assert (len(back.frames_FHWC), back.fps) == (22, Fraction(24000, 1001)) and back.audio is not None
    assert steps == [(i, 6) for i in range(1, 7)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip.mp4", "out.mp4"], "finished windows are cleared away"
    assert set(report.seconds) == {"read", "edit", "write"} and report.seconds["read"] > 0
    text = "\n".join(report.lines())
    for words in ("3 windows of 9 frames, 1 handed over", "audio (aac) copied", "joins: windows differ by"):
        assert words in text, text


@pytest.mark.parametrize("joins", ["smooth", "plain"])
def test_each_window_is_an_edit_of_its_own_with_the_edited_head(
    random_pipe: Any, clip: Path, tmp_path: Path, joins: str
) -> None:
    """smooth: the head is pinned, and the step behind it faded out."""
    results: list[WindowResult] = []
    options = WindowOptions(frames=9, joins=joins)
    edit(random_pipe, clip, tmp_path / "out.mp4", windows=options, on_window=lambda result, _: results.append(result))
    source = read_media(clip).frames_FHWC
    head = np.empty((0, 32, 32, 3), np.uint8)
    assert [len(r.new_FHWC) for r in results] == ([9, 7, 6] if joins == "smooth" else [9, 8, 5])
    for result in results:
        window = result.window
        given = np.concatenate([head[: window.head_frames], source[window.first_source : window.stop]])
        pinned = window.head_frames if joins == "smooth" else 0
        piece = Piece(given, 24000 / 1001, "make it dark", pinned=pinned)
        guidance = random_pipe.instructx_config.sampling.guidance_scale
        alone = edit_piece(random_pipe, piece, Sampling(2, guidance, 5), lambda step, steps: None)
        if pinned:
            alone = fade_out(alone, head)
        assert (alone[len(head) :] == result.new_FHWC).all()
        head = result.tail_OHWC


@pytest.mark.parametrize("kept", [None, KeepOutside()])
def test_fewer_frames_are_edited_and_all_come_back(
    random_pipe: Any, tmp_path: Path, kept: KeepOutside | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of them, stopped after the first window and gone on with: the file of an edit that was not stopped."""
    clip = tmp_path / "clip.mp4"
    write_video(clip, moving(32), 30)
    options = {"windows": WindowOptions(frames=5, edit_fps=15), "keep_outside": kept}
    whole = edit(random_pipe, clip, tmp_path / "whole.mp4", **options)
    assert any("17 of 32 frames edited, 15 a second" in note for note in whole.notes), whole.notes

    def stop(result: WindowResult, total: int) -> None:
        if result.window.index == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        edit(random_pipe, clip, tmp_path / "out.mp4", on_window=stop, **options)
    report = edit(random_pipe, clip, tmp_path / "out.mp4", **options)
    assert any("windows 1 to 2 were finished before" in note for note in report.notes)
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    back = read_media(tmp_path / "out.mp4")
    assert (len(back.frames_FHWC), back.fps) == (32, 30)


@pytest.mark.parametrize(("total", "windowed"), [(9, False), (17, False), (18, True)])
def test_the_rule(random_pipe: Any, tmp_path: Path, total: int, windowed: bool) -> None:
    """Windows exactly where the clip is longer than the model's 17 frames; max_frames: in one piece or refused."""
    source, output = tmp_path / "clip.mp4", tmp_path / "out.mp4"
    write_video(source, moving(total), 16)
    report = edit_file(random_pipe, source, "x", output=output, steps=1)
    assert any("2 windows of 17 frames" in note for note in report.notes) == windowed
    assert len(read_media(output).frames_FHWC) == total
    whole = edit_file(random_pipe, source, "x", output=output, steps=1, max_frames=18)
    assert not any("windows" in note for note in whole.notes)
    with pytest.raises(InputError, match="both given"):
        edit_file(random_pipe, source, "x", output=output, max_frames=18, windows=NINE)


# One process loads the model; a fork of it edits for each place, and dies there. Prints how each ended.
KILL = """
import os, signal, sys
from pathlib import Path
from instructx_core.editing import in_windows
from instructx_core.editing.edit import edit_file
from instructx_core.editing.windows import state
from instructx_core.editing.windows.options import WindowOptions
from instructx_core.weights import load_pipeline

source, model, places = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
pipe = load_pipeline(model, device="cpu")
pipe.set_progress_bar_config(disable=True)
die = lambda: os.kill(os.getpid(), signal.SIGKILL)

def edit(place):
    if place == "before the state is saved":
        save = state.WindowStore.save
        state.WindowStore.save = lambda self, saved: die() if saved.done == 2 else save(self, saved)
    if place == "while joining":
        in_windows.join_clips = lambda *_: die()
    edit_file(
        pipe, source, "make it dark", output=source.parent / place / "out.mp4", steps=2, seed=5,
        windows=WindowOptions(frames=9), progress=lambda done, total: die() if place == f"step {done}" else None,
    )

for place in places:
    child = os.fork()
    if not child:
        try:
            edit(place)
        finally:
            os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
KEPT = {"step 1": 0, "step 4": 1, "before the state is saved": 1, "while joining": 3}  # finished windows


@pytest.fixture(scope="module")
def killed(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with clip.mp4 and, of each place, a folder with what a killed edit left."""
    folder = tmp_path_factory.mktemp("killed")
    write_video(folder / "clip.mp4", moving(22), Fraction(24000, 1001))
    for place in KEPT:
        (folder / place).mkdir()
    command = [sys.executable, "-c", KILL, str(folder / "clip.mp4"), str(random_checkpoint), *KEPT]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # a fork has none of its parent's threads
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)
    assert done.stdout.split() == [str(-signal.SIGKILL)] * len(KEPT), done.stderr
    return folder


@pytest.fixture(scope="module")
def whole(pipe: Any, killed: Path) -> bytes:
    edit(pipe, killed / "clip.mp4", killed / "whole.mp4")
    return (killed / "whole.mp4").read_bytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks")
@pytest.mark.parametrize(("place", "kept"), KEPT.items())
def test_a_killed_job_goes_on_and_ends_the_same(pipe: Any, killed: Path, whole: bytes, place: str, kept: int) -> None:
    output = killed / place / "out.mp4"
    assert not output.exists() and (killed / place / ".out.mp4.windows").is_dir()
    edited: list[int] = []
    report = edit(pipe, killed / "clip.mp4", output, on_window=lambda result, _: edited.append(result.window.index))
    assert edited == list(range(kept, 3))
    assert any(f"windows 1 to {kept} were finished before" in note for note in report.notes) == (kept > 0)
    assert output.read_bytes() == whole
    assert not (killed / place / ".out.mp4.windows").exists()


class Stop(Exception):
    pass


def stop_after_one(result: WindowResult, total: int) -> None:
    raise Stop


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 6}, "seed"),
        ({"steps": 1}, "steps"),
        ({"windows": WindowOptions(frames=9, match_colour=True)}, "match_colour"),
        ({"windows": WindowOptions(frames=9, joins="plain")}, "joins"),
        ({"keep_outside": KeepOutside(feather=3)}, "keep_outside"),
        ({"windows": WindowOptions(frames=13)}, "window"),
        ({"windows": WindowOptions(frames=9, context="first")}, "context"),
    ],
)
def test_windows_of_another_edit_are_refused(
    random_pipe: Any, clip: Path, tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    output = tmp_path / "out.mp4"
    with pytest.raises(Stop):
        edit(random_pipe, clip, output, on_window=stop_after_one)
    with pytest.raises(InputError, match=rf"1 finished windows of another edit \({named} differ\)"):
        edit(random_pipe, clip, output, **change)
    assert not output.exists()


def test_changed_source_or_weights_are_noticed_and_restart_begins_anew(
    random_pipe: Any, clip: Path, tmp_path: Path
) -> None:
    output, fresh = tmp_path / "out.mp4", tmp_path / "fresh.mp4"
    with pytest.raises(Stop):
        edit(random_pipe, clip, output, on_window=stop_after_one)
    weight = next(random_pipe.transformer.parameters())
    before = weight.detach().clone()
    write_video(clip, moving(22)[::-1].copy(), Fraction(24000, 1001))
    try:
        with torch.no_grad():
            weight.mul_(1.01)
        with pytest.raises(InputError, match=r"model, source differ"):
            edit(random_pipe, clip, output)
    finally:
        with torch.no_grad():
            weight.copy_(before)
    edit(random_pipe, clip, output, windows=WindowOptions(frames=9, restart=True))
    edit(random_pipe, clip, fresh)
    assert output.read_bytes() == fresh.read_bytes()


def test_damaged_state_is_refused(random_pipe: Any, clip: Path, tmp_path: Path) -> None:
    output, folder = tmp_path / "out.mp4", tmp_path / ".out.mp4.windows"
    with pytest.raises(Stop):
        edit(random_pipe, clip, output, on_window=stop_after_one)
    (folder / "0000.mp4").rename(folder / "away.mp4")
    with pytest.raises(InputError, match=r"0000\.mp4 is gone"):
        edit(random_pipe, clip, output)
    (folder / "state.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"state\.safetensors: cannot be read"):
        edit(random_pipe, clip, output)


def test_nothing_changes_outside_of_the_mask(random_pipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows laid over the source at its full size, also those after a kill: exact before the compression."""
    frames, mask = np.repeat(np.repeat(moving(22), 2, 1), 2, 2)[:, :50], np.zeros((50, 64, 3), np.uint8)
    mask[10:40, 20:50] = 255
    source, output, picture = tmp_path / "in.mp4", tmp_path / "out.mp4", tmp_path / "mask.png"
    write_video(source, frames, 16)
    write_image(picture, mask)
    keep, written = KeepOutside(picture, feather=2), []

    def watched(path: Path, frames: Any, *arguments: Any, **options: Any) -> Any:
        written.append(np.stack(list(frames)))
        return write_frames(path, written[-1], *arguments, **options)

    monkeypatch.setattr(in_windows, "write_frames", watched)
    with pytest.raises(Stop):
        edit(random_pipe, source, output, keep_outside=keep, max_pixels=32 * 32, on_window=stop_after_one)
    report = edit(random_pipe, source, output, keep_outside=keep, max_pixels=32 * 32)
    made, read = np.concatenate(written), read_media(source).frames_FHWC
    outside = (mask == 0).all(-1)
    assert made.shape == read.shape == (22, 50, 64, 3) == read_media(output).frames_FHWC.shape
    assert (made[:, outside] == read[:, outside]).all() and (made != read).any(axis=(1, 2, 3)).all()
    assert report.size == (50, 64) and any("laid over the source" in note for note in report.notes)


def test_nan_in_a_later_window_keeps_the_finished_ones(random_pipe: Any, clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    weight = next(random_pipe.transformer.parameters())
    before = weight.detach().clone()

    def poison(result: WindowResult, total: int) -> None:
        with torch.no_grad():
            weight.fill_(float("nan"))

    try:
        with pytest.raises(InputError, match="not finite"):
            edit(random_pipe, clip, output, on_window=poison)
    finally:
        with torch.no_grad():
            weight.copy_(before)
    assert not output.exists()
    assert any("windows 1 to 1 were finished" in note for note in edit(random_pipe, clip, output).notes)


def test_one_context_for_all_windows(
    random_pipe: Any, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """context="first": the MLLM is asked once, also when the edit is resumed; "window": once a window."""
    asked: list[int] = []
    encode = random_pipe.encode_instruction

    def counted(batch: Any, *arguments: Any, **options: Any) -> Any:
        asked.append(batch.clips_BFHWC.shape[1])
        return encode(batch, *arguments, **options)

    monkeypatch.setattr(random_pipe, "encode_instruction", counted)
    edit(random_pipe, clip, tmp_path / "each.mp4", guidance=2.0)
    assert asked == [9, 9, 9], "the last window, 6 frames, is padded to 9"
    asked.clear()
    first = WindowOptions(frames=9, context="first")
    with pytest.raises(Stop):
        edit(random_pipe, clip, tmp_path / "first.mp4", windows=first, guidance=2.0, on_window=stop_after_one)
    edit(random_pipe, clip, tmp_path / "first.mp4", windows=first, guidance=2.0)
    assert asked == [9]
    edit(random_pipe, clip, tmp_path / "again.mp4", windows=first, guidance=2.0)
    assert (tmp_path / "first.mp4").read_bytes() == (tmp_path / "again.mp4").read_bytes()
    assert (tmp_path / "first.mp4").read_bytes() != (tmp_path / "each.mp4").read_bytes()


def test_command_line(random_checkpoint: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*options: str) -> tuple[int, str]:
        code = main(
            [
                "edit",
                "--input",
                str(clip),
                "--instruction",
                "x",
                "--output",
                str(tmp_path / "o.mp4"),
                "--steps",
                "1",
                "--model",
                str(random_checkpoint),
                "--device",
                "cpu",
                *options,
            ]
        )
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    code, text = run("--window", "0.4s", "--match-colour", "--overlap", "2")
    assert code == 0 and "4 windows of 9 frames, 2 handed over" in text and "window 4/4: frames" in text, text
    assert "corrected" in text
    smooth = read_media(tmp_path / "o.mp4").frames_FHWC
    code, text = run("--window", "0.4s", "--match-colour", "--overlap", "2", "--joins", "plain")
    assert (
        code == 0 and "3 windows of 9 frames" in text and (smooth != read_media(tmp_path / "o.mp4").frames_FHWC).any()
    )
    for option, words in (
        (["--window", "5m"], "'5m' is no length"),
        (["--window", "8"], "not 4n+1; use 9"),
        (["--window", "9", "--overlap", "5"], "overlap of 5 frames does not fit"),
        (["--window", "9", "--max-frames", "22"], "both given"),
        (["--max-frames", "21"], "more than 21 frames"),
    ):
        code, text = run(*option)
        assert code == 2 and words in text.splitlines()[-1] and "Traceback" not in text, text
