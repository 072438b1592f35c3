"""outputs.jsonl: read back as written, the last line of an item counts, a crash costs one line, bad lines are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from instructx_core.errors import InputError
from instructx_core.evaluation.outputs import OUTPUTS, Output, OutputFile, read_outputs

MADE = Output("add/1", "ours", "a.png", 3, 1.5)
FAILED = Output("add/2", "ours", None, 3, 0.5, "out of memory")


def test_written_and_read_back(tmp_path: Path) -> None:
    file = OutputFile(tmp_path)
    assert file.start() == {}
    file.add([MADE, FAILED])
    assert list(read_outputs(tmp_path / OUTPUTS).values()) == [MADE, FAILED]
    assert MADE.path(tmp_path) == tmp_path / "a.png" and FAILED.path(tmp_path) is None


def test_only_what_lies_there_is_done(tmp_path: Path) -> None:
    """A failed item and one whose file was removed are made again."""
    file = OutputFile(tmp_path)
    file.start()
    file.add([MADE, FAILED, Output("add/3", "ours", "gone.png")])
    (tmp_path / "a.png").write_bytes(b"x")
    assert list(OutputFile(tmp_path).start()) == [("add/1", "ours")]


def test_the_last_line_of_an_item_counts(tmp_path: Path) -> None:
    file = OutputFile(tmp_path)
    file.start()
    again = Output("add/2", "ours", "b.png", 4)
    file.add([FAILED, MADE, again])
    assert list(read_outputs(tmp_path / OUTPUTS).values()) == [MADE, again]


@pytest.mark.parametrize("cut", [1, 2, 20, 40])
def test_a_half_line_of_a_crash_is_dropped(tmp_path: Path, cut: int) -> None:
    file = OutputFile(tmp_path)
    file.start()
    file.add([MADE, FAILED])
    path = tmp_path / OUTPUTS
    path.write_bytes(path.read_bytes()[:-cut])
    whole = [MADE, FAILED] if cut == 1 else [MADE]  # 1: only the newline is lost
    assert list(read_outputs(path).values()) == whole
    again = OutputFile(tmp_path)
    again.start()
    again.add([FAILED])
    assert list(read_outputs(path).values()) == [MADE, FAILED]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1 is no JSON"),
        ("[1]", "line 1 is no JSON object"),
        ('{"id": "a"}', "no 'editor'"),
        ('{"id": "a", "editor": "x", "output": "a", "sed": 1}', "unknown field 'sed'"),
        ('{"id": "a", "editor": "x"}', "give an output, or an error"),
        ('{"id": "a", "editor": "x", "output": "a", "error": "b"}', "give an output, or an error"),
        ('{"id": 3, "editor": "x", "output": "a"}', "id is 3"),
        ('{"id": "a", "editor": "x", "output": 3}', "output is 3"),
        ('{"id": "a", "editor": "x", "output": "a", "seed": 1.5}', "seed is 1.5"),
        ('{"id": "a", "editor": "x", "output": "a", "seconds": "1"}', "seconds is '1'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / OUTPUTS
    path.write_text(line + "\n" + json.dumps(MADE.as_json()) + "\n")
    with pytest.raises(InputError, match=said) as caught:
        read_outputs(path)
    assert "line 1" in str(caught.value) and str(path) in str(caught.value)


def test_what_is_no_file_of_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_outputs(tmp_path / "none.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe9"}\n')
    with pytest.raises(InputError, match="no UTF-8"):
        read_outputs(tmp_path / "latin.jsonl")
    with pytest.raises(InputError):
        OutputFile(tmp_path / "none").start()
