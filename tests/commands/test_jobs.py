"""`instructx edit --jobs`: each line runs or says why not, finished ones are skipped by content, exit code, table."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from sounds import write_clip

from instructx_core.cli import main
from instructx_core.digests import file_digest
from instructx_core.editing.journal import Journal
from instructx_core.errors import InputError
from instructx_core.media.files import read_image, read_media, write_video

NO_REPORT = SimpleNamespace(chosen=())  # of an edit that a test stands in for


@pytest.fixture
def run(random_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """run(lines, *options) -> (exit code, what was printed); a line is an object, or text written as it is."""
    for name, color in (("red.png", "red"), ("blue.png", "blue")):
        Image.new("RGB", (48, 32), color).save(tmp_path / name)

    def call(lines: list[Any], *options: str) -> tuple[int, str]:
        text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
        (tmp_path / "jobs.jsonl").write_text(text, encoding="utf-8")
        code = main(
            [
                "edit",
                "--jobs",
                str(tmp_path / "jobs.jsonl"),
                "--model",
                str(random_checkpoint),
                "--device",
                "cpu",
                "--steps",
                "1",
                *options,
            ]
        )
        captured = capsys.readouterr()
        return code, captured.err + captured.out  # the table comes last

    return call


def job(source: str = "red.png", output: str = "a.png", **options: Any) -> dict[str, Any]:
    return {"input": source, "instruction": "make it blue", "output": output, **options}


def test_bad_jobs_do_not_stop_the_rest(run: Callable[..., Any], tmp_path: Path) -> None:
    code, text = run(
        [
            job(output="a.png"),
            "{not json",
            "",
            job(source="none.png", output="b.png"),
            job(output="c.mp4"),
            job(output="d.png", colour=3),
            job(output="e.png", steps="two"),
            job(output="a.png"),
            "[1]",
            job(source="blue.png", output="f.png", reference="red.png", steps=2, seed=4, size="32x32"),
            job(source="http://x/y.png", output="g.png"),
            job(source=".", output="h.png"),
            job(output="i.png", reference="ftp://x/y.png"),
        ]
    )
    assert code == 1
    assert sorted(p.name for p in tmp_path.glob("?.*")) == ["a.png", "f.png"]
    assert read_image(tmp_path / "f.png").shape[0] * read_image(tmp_path / "f.png").shape[1] <= 1024
    table = text[text.index("line  status") :].splitlines()
    assert [row.split()[:2] for row in table[1:-1]] == [
        ["1", "done"], ["2", "failed"], ["4", "failed"], ["5", "failed"], ["6", "failed"], ["7", "failed"],
        ["8", "failed"], ["9", "failed"], ["10", "done"], ["11", "failed"], ["12", "failed"], ["13", "failed"],
    ]  # fmt: skip
    assert table[-1] == "12 jobs: 2 done, 0 skipped, 10 failed"
    assert sum("an address, not a file; download it first" in row for row in table) == 2
    assert "not a file but a folder" in text
    for words in ("not JSON", "none.png: no such file", "source is an image", "colour is no option", "'two', a str",
                  "line 1 writes the same file", "line 9 is a list"):  # fmt: skip
        assert words in text, words


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes in folders")
def test_a_pipe_or_a_device_does_not_stop_the_list(run: Callable[..., Any], tmp_path: Path) -> None:
    """They may never end, and a list digests files before it looks at them: as source, reference and mask."""
    with pytest.raises(InputError, match="not a file but a pipe or a device"):
        file_digest(Path(os.devnull))  # this one ends: where it is read, the pipe would be waited for
    os.mkfifo(tmp_path / "pipe")
    lines = [job("pipe"), job(output="b.png", reference=["pipe"]), job(output="c.png", keep_outside="pipe")]
    code, text = run([*lines, job(output="d.png")])
    assert code == 1 and text.count("pipe: not a file but a pipe or a device") == 2 * len(lines)
    assert "4 jobs: 1 done, 0 skipped, 3 failed" in text


def test_finished_jobs_are_skipped_by_content(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [job(output="a.png"), job(source="blue.png", output="b.png")]
    assert run(lines)[0] == 0
    first = (tmp_path / "a.png").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(
            "instructx_core.commands.edit.pipeline_of", lambda args: pytest.fail("nothing to run, nothing to load")
        )
        code, text = run(lines)
        assert code == 0 and "0 done, 2 skipped" in text and text.count("finished before") == 4
        shutil.copy(tmp_path / "red.png", tmp_path / "same.png")
        assert "2 skipped" in run([job("same.png", "a.png"), lines[1]])[1], "the content decides, not the name"
    (tmp_path / "a.png").write_bytes(b"spoiled")
    assert "1 done, 1 skipped" in run(lines)[1]
    assert (tmp_path / "a.png").read_bytes() == first
    (tmp_path / "b.png").unlink()
    Image.new("RGB", (48, 32), "green").save(tmp_path / "red.png")
    assert "2 done, 0 skipped" in run(lines)[1]
    assert "2 done" in run(lines, "--seed", "5")[1]
    assert "2 done" in run(lines, "--seed", "5", "--dtype", "bfloat16")[1]
    assert "2 done" in run([{**line, "instruction": "other"} for line in lines])[1]


def test_every_option_of_the_command_line_is_one_of_a_job(run: Callable[..., Any], tmp_path: Path) -> None:
    """Windows, their colours and a restart too; a switch of the list's line wins over the command line's."""
    write_video(tmp_path / "in.mp4", np.zeros((9, 32, 48, 3), np.uint8), 8)
    options = {"window": "5", "overlap": 1, "joins": "plain", "context": "first", "restart": True, "partial": True}
    lines = [
        job("in.mp4", "a.mp4", match_colour=True, guidance=1.5, keep_outside="auto", feather=2, **options),
        job("in.mp4", "b.mp4", match_colour=False),
    ]
    code, text = run(lines, "--match-colour")
    assert code == 0 and "2 done" in text, text
    assert len(read_media(tmp_path / "a.mp4").frames_FHWC) == 9 == len(read_media(tmp_path / "b.mp4").frames_FHWC)
    assert "2 skipped" in run([{**lines[0], "restart": False}, lines[1]], "--match-colour")[1]
    assert "1 done, 1 skipped" in run([{**lines[0], "match_colour": False}, lines[1]], "--match-colour")[1]


def test_a_sound_that_cannot_be_kept_is_said_or_refused(run: Callable[..., Any], tmp_path: Path) -> None:
    """Never at the cost of the pictures, of the job or of the list; where it is needed, before a model is loaded."""
    clip = write_clip(tmp_path / "in.mov", layouts=("stereo", "mono"))
    clip.write_bytes(clip.read_bytes().replace(b"sowt", b"apac", 1))
    code, text = run([job("in.mov", "a.mp4"), job("in.mov", "b.mp4", need_sound=True), job("red.png", "c.png")])
    assert code == 1 and "2 done, 0 skipped, 1 failed" in text, text
    said, refused = (row for row in text[text.index("line  status") :].splitlines() if ".mp4" in row)
    assert "audio 1 left out: this FFmpeg knows no decoder for it" in said and "audio 2 (pcm_s16le) encoded" in said
    assert "audio 1 left out" in refused and "leave --need-sound out" in refused
    assert len(read_media(tmp_path / "a.mp4").frames_FHWC) == 17 and not (tmp_path / "b.mp4").exists()
    code, text = run([job("in.mov", "a.mp4", need_sound=True)])
    assert code == 1 and "leave --need-sound out" in text, "finished without it is not finished with it"
    assert "1 skipped" in run([job("in.mov", "a.mp4")])[1]


def test_a_job_with_a_wrong_file_loads_no_model(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instructx_core.commands.edit.pipeline_of", lambda args: pytest.fail("nothing to run"))
    code, text = run([job(output="a.mp4"), job(keep_outside="blue.png", output="c.png", size="8x")])
    assert code == 1 and "source is an image" in text and "'8x' is not a size" in text


def test_a_changed_file_of_the_model_is_noticed(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A LoRA, a part or a training file with other bytes under the same name, also past the first and last MiB."""
    monkeypatch.setattr("instructx_core.commands.edit.pipeline_of", lambda args: "a pipeline")
    monkeypatch.setattr("instructx_core.editing.jobs.edit", _write)
    files = {name: tmp_path / f"{name}.safetensors" for name in ("lora", "vae", "kiwi", "index")}
    for file in files.values():
        file.write_bytes(bytes(3 << 20))
    index = tmp_path / "sharded" / "model.safetensors.index.json"
    index.parent.mkdir()
    index.write_text("{}")
    shard = shutil.copy(files.pop("index"), index.parent / "model-1.safetensors")
    options = ["--model", str(files["kiwi"]), "--lora", f"{files['lora']}:0.5", "--part", f"vae={files['vae']}",
               "--part", f"denoiser={index}"]  # fmt: skip
    assert "1 done" in run([job()], *options)[1] and "1 skipped" in run([job()], *options)[1]
    for file in (*files.values(), shard):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        assert "1 done" in run([job()], *options)[1], file.name
        assert "1 skipped" in run([job()], *options)[1]
    moved = files["lora"].rename(tmp_path / "renamed.safetensors")
    options[3] = f"{moved}:0.5"
    assert "1 skipped" in run([job()], *options)[1], "the content decides, not the name"
    options[3] = f"{moved}:0.6"
    assert "1 done" in run([job()], *options)[1], "another strength"


def test_a_torn_journal_line_runs_that_job_again(run: Callable[..., Any], tmp_path: Path) -> None:
    lines = [job(output="a.png"), job(source="blue.png", output="b.png")]
    run(lines)
    journal = tmp_path / "jobs.done.jsonl"
    journal.write_text(journal.read_text()[:-20])
    code, text = run(lines)
    assert code == 0 and "1 done, 1 skipped" in text
    assert "2 skipped" in run(lines)[1], "what follows a torn line is read again"


def test_interrupt_tells_what_is_done(run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from instructx_core.editing import jobs

    original = jobs.edit

    def second_interrupts(pipe: Any, look: Any) -> Any:
        if look.request.source.name == "blue.png":
            raise KeyboardInterrupt
        return original(pipe, look)

    monkeypatch.setattr(jobs, "edit", second_interrupts)
    lines = [job("none.png", "x.png"), job(), job("blue.png", "b.png"), job(output="c.png"), job(output="d.png")]
    code, text = run(lines)
    assert code == 130 and "5 jobs: 1 done, 0 skipped, 1 failed, 1 stopped, 2 not finished" in text
    rows = text[text.index("line  status") :].splitlines()[1:-1]
    assert [row.split()[:2] for row in rows] == [["1", "failed"], ["2", "done"], ["3", "stopped"]]
    monkeypatch.undo()
    assert "5 jobs: 3 done, 1 skipped, 1 failed\n" in run(lines)[1]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access"),
        MemoryError(),
        OSError(5, "Input/output error"),
        SystemExit(3),
        AssertionError("a bug"),
        KeyError("x"),
        StopIteration(),
        RecursionError(),
        av.error.InvalidDataError(1, "libav"),
        UnicodeEncodeError("ascii", "\ud800", 0, 1, "odd\nname"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_job_raises_fails_that_job_only(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """While its files are looked at, and while it is edited."""
    from instructx_core.editing import jobs

    def broken(original: Callable[..., Any], request: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            if request(*given).seed == 7:
                raise error
            return original(*given)

        return call

    lines = [job(output="a.png", seed=7), job(source="blue.png", output="b.png")]
    with monkeypatch.context() as patch:
        patch.setattr("instructx_core.commands.edit.pipeline_of", lambda args: "a pipeline")
        patch.setattr(jobs, "edit", broken(_write, lambda pipe, look: look.request))
        code, text = run(lines)
        assert code == 1 and "1 done, 0 skipped, 1 failed" in text and f"a.png: {type(error).__name__}:" in text
        patch.setattr(jobs, "edit", _write)
        patch.setattr(jobs, "look_at", broken(jobs.look_at, lambda request, source: request))
        code, text = run(lines)
        assert code == 1 and "0 done, 1 skipped, 1 failed" in text and f"a.png: {type(error).__name__}:" in text
    rows = text[text.index("line  status") :].splitlines()
    assert len(rows) == 4, "one row a job, whatever its message holds"


def _write(pipe: Any, look: Any) -> Any:
    look.request.output.write_bytes(b"picture")
    return NO_REPORT


def test_a_job_that_ended_the_process_is_tried_last(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that crashes a library in C: the next run must come past it, and so with jobs that read what it writes."""
    lines = [job(output="a.png"), job(source="a.png", output="c.png"), job(source="blue.png", output="b.png")]
    Image.new("RGB", (48, 32), "red").save(tmp_path / "a.png")
    at_kill, tried = dict[str, bytes](), list[str]()

    def keep_journal(pipe: Any, look: Any) -> Any:
        name = look.request.output.name
        tried.append(name)
        at_kill[name] = (tmp_path / "jobs.done.jsonl").read_bytes()  # what a process that ends here leaves
        shutil.copy(look.request.source, look.request.output)
        return NO_REPORT

    monkeypatch.setattr("instructx_core.commands.edit.pipeline_of", lambda args: "a pipeline")
    monkeypatch.setattr("instructx_core.editing.jobs.edit", keep_journal)
    assert "3 done" in run(lines)[1] and tried == ["a.png", "c.png", "b.png"]
    tried.clear()
    (tmp_path / "jobs.done.jsonl").write_bytes(at_kill["a.png"])
    assert "3 done" in run(lines)[1] and tried == ["b.png", "a.png", "c.png"]
    assert Journal(tmp_path / "jobs.jsonl").unfinished == set()
    tried.clear()
    (tmp_path / "jobs.done.jsonl").write_bytes(at_kill["c.png"])
    assert "1 done, 2 skipped" in run(lines)[1] and tried == ["c.png"]


def test_a_journal_that_cannot_be_kept(run: Callable[..., Any], tmp_path: Path) -> None:
    """Said before a model is loaded; another place is taken; full after an edit, the edit is done and says so."""
    (tmp_path / "jobs.done.jsonl").mkdir()
    code, text = run([job()])
    assert code == 2 and "jobs.done.jsonl: what is finished cannot be remembered there" in text
    options = ("--journal", str(tmp_path / "journal"))
    assert "1 done" in run([job()], *options)[1] and "1 skipped" in run([job()], *options)[1]
    code, text = run([job()], "--journal", os.devnull)
    assert code == 2 and "is no file" in text
    resource = pytest.importorskip("resource", reason="limits of files are POSIX")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    (tmp_path / "journal").write_bytes(b"\n" * (1 << 20))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        code, text = run([job(output="b.png")], *options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 0 and "1 done" in text and f"written, but {tmp_path / 'journal'} cannot be (File too large)" in text
    assert read_image(tmp_path / "b.png").shape[2] == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--input", "a.png"], "--input with --jobs"),
        (["--model", "absent"], "no such checkpoint"),
    ],
)
def test_wrong_calls(run: Callable[..., Any], options: list[str], words: str) -> None:
    code, text = run([job()], *options)
    assert code == 2 and words in text


def test_no_input_and_no_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["edit", "--instruction", "x"]) == 2
    assert "--input, --output is missing" in capsys.readouterr().err
    assert main(["edit", "--jobs", str(tmp_path / "none.jsonl")]) == 2
    (tmp_path / "empty.jsonl").write_text("\n")
    assert main(["edit", "--jobs", str(tmp_path / "empty.jsonl")]) == 2
    assert "holds no job" in capsys.readouterr().err
