"""Lists of jobs as programs and people write them: encodings, ends of lines, arrays, what JSON allows and we do not."""

from __future__ import annotations

import codecs
import json
import os
from pathlib import Path
from typing import Any

import pytest

from instructx_core.editing.job_list import BadLine, Job, read_jobs
from instructx_core.editing.journal import Journal
from instructx_core.editing.places import same_place
from instructx_core.errors import InputError


def line(output: str = "a.png", **values: Any) -> str:
    return json.dumps(
        {"input": "in.png", "instruction": "make it blue", "output": output, **values}, ensure_ascii=False
    )


def read(folder: Path, content: str | bytes) -> list[Job | BadLine]:
    path = folder / "jobs.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))
    return read_jobs(path, {})


TWO = line("a.png") + "\n" + line("b.png") + "\n"


@pytest.mark.parametrize(
    "content",
    [
        codecs.BOM_UTF8 + TWO.encode(),
        codecs.BOM_UTF8 + line("a.png").encode() + b"\n" + codecs.BOM_UTF8 + line("b.png").encode(),  # cat a b
        *(TWO.encode(f"utf-{bits}{order}") for bits in (16, 32) for order in ("", "-le", "-be")),
        TWO.replace("\n", "\r\n").encode(),
        TWO.replace("\n", "\f\n\x85\n").encode(),
        json.dumps([json.loads(text) for text in TWO.splitlines()]).encode(),
        codecs.BOM_UTF8 + json.dumps([json.loads(text) for text in TWO.splitlines()], indent=2).encode(),
        json.dumps([json.loads(text) for text in TWO.splitlines()], indent=2).encode("utf-16"),
    ],
)
def test_a_list_in_any_form_is_read(tmp_path: Path, content: bytes) -> None:
    jobs = read(tmp_path, content)
    assert [job.request.output.name for job in jobs if isinstance(job, Job)] == ["a.png", "b.png"]
    assert [job.line for job in jobs] in ([1, 2], [1, 3])


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\f", "\v", "\x1c", "\r", "\ufeff"])
def test_only_a_line_feed_ends_a_line(tmp_path: Path, mark: str) -> None:
    text = line("a.png", instruction=f"make it{mark}blue")
    text = json.dumps(json.loads(text)) if ord(mark) < 32 else text  # JSON wants control characters escaped
    jobs = read(tmp_path, text + "\n" + line("b.png"))
    assert [job.line for job in jobs] == [1, 2]
    assert isinstance(jobs[0], Job) and jobs[0].request.instruction == f"make it{mark}blue"


BAD = {
    "latin-1": (line(instruction="mach es gr\xfcn").encode("latin-1"), "is not UTF-8 (byte 0xFC at 47)"),
    "NaN": (line(guidance=float("nan")), "holds NaN"),
    "Infinity": (line(guidance=float("inf")), "holds Infinity"),
    "1e999": (line().replace("}", ', "guidance": 1e999}'), "not a finite number"),
    "long": (line().replace("}", f', "seed": {"7" * 5000}}}'), "whole number of 5000 digits"),
    "-long": (line().replace("}", f', "steps": -{"7" * 4000}}}'), "whole number of 4000 digits"),
    "deep": ("[" * 100_000 + "]" * 100_000, "is nested too deep"),
    "deep object": (line().replace("}", ', "x": ' + '{"a": ' * 100_000 + "1" + "}" * 100_001), "is nested too deep"),
    "twice": (line().replace("}", ', "seed": 1, "seed": 2}'), "gives seed twice"),
    "NUL": (line(input="a\0b.png"), "no file has a NUL character"),
    "NUL mask": (line(keep_outside="a\0b.png"), "no file has a NUL character"),
    "NUL reference": (line(reference=["a\0b.png"]), "no file has a NUL character"),
    "surrogate": (line(output="a\ud800.png").encode("utf-8", "surrogatepass"), "is not UTF-8"),
    "surrogate name": (line().replace("in.png", "a\\ud800.png"), "half a character"),
    "surrogate text": (line().replace("blue", "\\udfff"), "half a character"),
    "surrogate key": (line().replace("}", ', "\\ud800": 2}'), "is no option"),
    "number": ("17", "is a int"),
    "text": ('"a.png"', "is a str"),
    "trailing": (line() + ",", "is not JSON (Extra data"),
    "torn": (line()[:-5], "is not JSON"),
    "control": ("\0" * 9, "is not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_line_is_one_bad_line_and_keeps_its_name(tmp_path: Path, kind: str) -> None:
    bad, words = BAD[kind]
    bad = bad if isinstance(bad, bytes) else bad.encode()
    jobs = read(tmp_path, b"\n".join([line("first.png").encode(), bad, line("last.png").encode()]))
    assert [type(job) for job in jobs] == [Job, BadLine, Job]
    assert isinstance(jobs[1], BadLine) and jobs[1].line == 2 and words in jobs[1].problem, jobs[1]
    assert len(jobs[1].problem) < 600, "a message, not the whole line"
    if b'"output": "a.png"' in bad:
        assert jobs[1].output == str(tmp_path / "a.png")


def test_a_bad_object_of_an_array_is_one_bad_job(tmp_path: Path) -> None:
    parts = [line("a.png"), '{"output": "b.png", "guidance": NaN}', line("c.png")[:-1] + f', "seed": {"7" * 5000}}}']
    jobs = read(tmp_path, f"[\n{parts[0]},\n{parts[1]}, {parts[2]},\n{line('c.png')}]")
    assert [(job.line, type(job)) for job in jobs] == [(1, Job), (2, BadLine), (3, BadLine), (4, Job)]
    assert isinstance(jobs[1], BadLine) and jobs[1].output == str(tmp_path / "b.png")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" + line().encode(), "begins with [ and is no JSON array"),
        (b"[" + line().encode() + b"] x", "more follows after its ]"),
        (b"[]", "holds no job"),
        ("{}".encode("utf-16")[:-1], "cannot be read as a list of jobs"),
        (b"\n \n", "holds no job"),
    ],
)
def test_a_list_that_is_none(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, content)
    assert words in str(caught.value)


def test_a_name_of_any_bytes_comes_through_json(tmp_path: Path) -> None:
    """What Python writes for a file whose name is no UTF-8, as old cameras have it."""
    jobs = read(tmp_path, json.dumps({"input": "caf\udce9.png", "instruction": "x", "output": "b.png"}))
    assert isinstance(jobs[0], Job) and os.fsencode(jobs[0].request.source.name) == b"caf\xe9.png"


def test_two_jobs_of_one_output(tmp_path: Path) -> None:
    """By another way to write it, by a link to its folder and by a link to the file, which need not be there yet."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "folder" / "to_a.png").symlink_to("a.png")
    names = ["folder/a.png", "./folder/a.png", "folder/../folder/a.png", "link/a.png", "link/to_a.png", "folder/b.png"]
    jobs = read(tmp_path, "\n".join(map(line, names)))
    assert [isinstance(job, Job) for job in jobs] == [True, False, False, False, False, True]
    assert all("line 1 writes the same file" in job.problem for job in jobs if isinstance(job, BadLine))


def test_names_that_differ_in_case_are_what_the_disk_takes_them_for(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    one = (tmp_path / "X").exists()
    jobs = read(tmp_path, "\n".join(map(line, ["a.png", "A.PNG"])))
    assert isinstance(jobs[1], BadLine if one else Job)
    assert same_place(tmp_path / "a.png", tmp_path / "A.PNG") == one
    assert not same_place(tmp_path / "a.png", tmp_path / "b.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jobs.jsonl", "x"], "the trial leaves nothing"


def test_an_output_that_is_an_input_is_refused(tmp_path: Path) -> None:
    """Each run of the list would edit it again: by one line, or over several. Later lines may read an output."""
    (tmp_path / "same.png").symlink_to("in.png")
    lines = [
        line("in.png"), line("same.png"), line("mask.png", keep_outside="mask.png"),
        line("reference.png", reference="reference.png"), line("next.png"), line("third.png", input="next.png"),
        line("next2.png", input="third.png", reference="next.png"),
        line("third2.png", input="x.png"), line("x.png", input="y.png"),
    ]  # fmt: skip
    jobs = read(tmp_path, "\n".join(lines))
    assert [isinstance(job, Job) for job in jobs] == [False, False, False, False, True, True, True, True, False]
    assert [job.problem.split("is what ")[1][:11] for job in jobs if isinstance(job, BadLine)] == [
        "line 1 read", "line 2 read", "line 3 read", "line 4 read", "line 8 read",
    ]  # fmt: skip
    assert [job.after for job in jobs if isinstance(job, Job)] == [(), (5,), (5, 6), ()]


@pytest.mark.parametrize("kind", ["folder", "below a file", "too long"])
def test_a_journal_that_cannot_be_written_is_said_at_once(tmp_path: Path, kind: str) -> None:
    (tmp_path / "jobs.done.jsonl").mkdir()
    (tmp_path / "file").touch()
    lists = {"folder": "jobs.jsonl", "below a file": "file/jobs.jsonl", "too long": f"{'j' * 249}.jsonl"}
    with pytest.raises(InputError, match=r"cannot be remembered there .*; give --journal FILE"):
        Journal(tmp_path / lists[kind])
    elsewhere = Journal(tmp_path / lists[kind], tmp_path / "journal")
    elsewhere.begin(tmp_path / "a.png")
    assert Journal(tmp_path, tmp_path / "journal").unfinished == {"a.png"}


def test_what_is_no_entry_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "out.png").write_bytes(b"picture")
    journal = Journal(tmp_path / "jobs.jsonl")
    journal.add(journal.entry(tmp_path / "out.png", "key"))
    journal.begin(tmp_path / "b.png")
    with journal.path.open("ab") as file:
        file.write(b'\n\xff\xfe\n[1]\n7\n{"output": 3}\n{"output": [], "state": "begun"}\n' + b"[" * 100_000)
    again = Journal(tmp_path / "jobs.jsonl")
    assert again.holds(tmp_path / "out.png", "key") and again.unfinished == {"b.png"}
    assert caplog.text.count("an unreadable line is ignored") == 6
