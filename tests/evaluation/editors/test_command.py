"""A command line of the user's as an editor: filled in part by part, its failures are the items' own."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from pathlib import Path

import pytest

from instructx_core.data.record import EditRecord, Locator
from instructx_core.errors import InputError
from instructx_core.evaluation.editors.command import Command
from instructx_core.evaluation.editors.run import EditTask, edit_items
from instructx_core.evaluation.run_folder import RunFolder

COPY = (
    "import sys, shutil; shutil.copyfile(sys.argv[1], sys.argv[2]); open(sys.argv[2] + '.txt', 'w').write(sys.argv[3])"
)


def item(name: str, instruction: str = "make it blue", reference: bool = False) -> EditRecord:
    picture = Locator("a.png") if reference else None
    return EditRecord(name, "add", "image", instruction, Locator("a.png"), reference=picture)


def task(folder: Path, of: EditRecord) -> EditTask:
    return EditTask(of, folder / "a.png", folder / "a.png" if of.reference else None, folder / "o.png", 7)


def test_parts_are_filled_in_after_the_line_is_split(tmp_path: Path) -> None:
    command = Command(
        "edit '{source}' --text={instruction} -o {output} -s {seed} -r {reference} --kind {task}/{id}", "x"
    )
    said = '"; rm -rf / #$(x) {seed}'
    arguments = command.arguments(task(tmp_path, item("n", said, reference=True)))
    source, output = str(tmp_path / "a.png"), str(tmp_path / "o.png")
    assert arguments == ["edit", source, f"--text={said}", "-o", output, "-s", "7", "-r", source, "--kind", "add/n"]
    masked = Command("remove {source} {instruction} {output} --mask {mask} --on={mask}", "x")
    with_mask = dataclasses.replace(task(tmp_path, item("n")), mask=tmp_path / "m.png")
    assert masked.arguments(with_mask)[4:] == ["--mask", str(tmp_path / "m.png"), f"--on={tmp_path / 'm.png'}"]
    assert masked.arguments(task(tmp_path, item("n")))[4:] == []
    without = command.arguments(task(tmp_path, item("n")))
    assert without == ["edit", source, "--text=make it blue", "-o", output, "-s", "7", "--kind", "add/n"]


def test_items_through_a_program(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"picture")
    script = tmp_path / "copy it.py"
    script.write_text(COPY)
    items = [item("one", 'say "it\'s" blue; $HOME'), item("two", reference=True)]
    editor = Command(f"{sys.executable} '{script}' {{source}} {{output}} {{instruction}}", "theirs")
    one, two = edit_items(RunFolder(tmp_path / "."), editor, items)
    assert one.output == "one.png" and (tmp_path / "theirs" / "one.png").read_bytes() == b"picture"
    assert (tmp_path / "theirs" / "one.png.txt").read_text() == items[0].instruction
    assert two.output is None and two.error == "the item has a reference picture, and --command no {reference}"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; print('no memory', file=sys.stderr); sys.exit(3)", "ended with 3: no memory"),
        ("pass", "the editor wrote no output"),
        ("import time; time.sleep(60)", "took more than 0.5 s and was stopped"),
    ],
)
def test_a_program_that_fails_costs_one_item(tmp_path: Path, code: str, said: str) -> None:
    (tmp_path / "a.png").write_bytes(b"picture")
    stale = tmp_path / "theirs" / "one.png"
    stale.parent.mkdir()
    stale.write_bytes(b"of an earlier run")
    line = f'{sys.executable} -c "{code.replace(chr(34), chr(39))}" {{source}} {{output}} {{instruction}}'
    (output,) = edit_items(
        RunFolder(tmp_path), Command(line, "theirs", timeout=0.5 if "sleep" in code else 60), [item("one")]
    )
    assert output.output is None and said in (output.error or "")


@pytest.mark.skipif(os.name == "nt", reason="groups of processes are POSIX")
def test_what_a_program_started_is_stopped_with_it(tmp_path: Path) -> None:
    """Its own child would hold the pipe, and be waited for, long after the time-out."""
    child = f'{sys.executable} -c "import time; time.sleep(50)" & echo $! > child; wait'
    (tmp_path / "start.sh").write_text(f"cd {tmp_path}\n{child}\n")
    command = Command(f"sh {tmp_path / 'start.sh'} {{source}} {{output}} {{instruction}}", "x", 3.0)
    start = time.monotonic()
    with pytest.raises(InputError, match="took more than 3 s and was stopped"):
        command.edit(task(tmp_path, item("n")))
    assert time.monotonic() - start < 40
    pid = int((tmp_path / "child").read_text())
    for _ in range(200):  # until init has taken it away
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return
        except FileNotFoundError:
            return
        time.sleep(0.05)
    pytest.fail("the program's child goes on")


def test_an_exchanged_program_or_checkpoint_is_another_editor(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"picture")
    script, weights, log = tmp_path / "copy.py", tmp_path / "weights", tmp_path / "log.txt"
    script.write_text(COPY + f"\nopen({str(log)!r}, 'a').write('one more')")
    (weights / "unet").mkdir(parents=True)
    (weights / "unet" / "model.safetensors").write_bytes(b"first")
    line = f"{sys.executable} {script} {{source}} {{output}} {{instruction}} --weights={weights} {weights} {log}"
    long = f"{line} --note {'x' * 300}"
    run, items = RunFolder(tmp_path), [item("one"), item("two")]

    def edited(line: str = line) -> None:
        assert [each.error for each in edit_items(run, Command(line, "theirs"), items)] == [None, None]

    edited()
    edited()  # what it wrote itself makes it no other one
    assert Command(long, "x").settings["files"].keys() == Command(line, "x").settings["files"].keys()
    (weights / "unet" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(InputError, match="there are outputs of another files; give this one another --name"):
        edited()
    (weights / "unet" / "model.safetensors").write_bytes(b"first")
    edited()
    script.write_text(COPY)
    with pytest.raises(InputError, match="there are outputs of another files"):
        edited()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("edit {source} {output}", "says nothing of {instruction}"),
        ("edit {source} {output} {instruction} {prompt}", "{prompt} is unknown; use {source}"),
        ("edit '{source} {output} {instruction}", "cannot be split"),
    ],
)
def test_lines_that_cannot_be(line: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        Command(line, "x")
    assert said in str(caught.value)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_times_that_cannot_be(seconds: float) -> None:
    with pytest.raises(InputError, match="give the seconds that an item may take"):
        Command("edit {source} {output} {instruction}", "x", seconds)


def test_no_such_program(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"/no/such/editor: cannot be started"):
        Command("/no/such/editor {source} {output} {instruction}", "x").edit(task(tmp_path, item("n")))
