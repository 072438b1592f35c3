"""An interrupt at every single instruction of the code that claims an output and puts a file in its place."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from instructx_core.media.outputs import atomic_path, claim_output

OURS = ("file_lock.py", os.path.join("media", "outputs.py"), os.path.join("media", "names.py"))
NEAR = (*OURS, "contextlib.py", Path(__file__).name)

# A file that an interrupt caught between open() and its name is closed by the collector, which says so.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="3.12.1 skips handlers when a trace raises at a jump"),
]


def interrupted(work: Callable[[], Any], count: int) -> bool:
    """Runs `work` and raises KeyboardInterrupt at its count-th event; False when it has fewer.

    Events are instructions of OURS, contextlib.py and this file, and the end of each function that they call.
    """
    left = count

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal left
        frame.f_trace_opcodes = near = frame.f_code.co_filename.endswith(NEAR)
        frame.f_trace_lines = False
        if event == ("opcode" if near else "return"):
            left -= 1
            if left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:  # without a name: then its traceback, and what that holds on to, is gone afterwards
        return True
    finally:
        sys.settrace(before)
    return False


def test_a_file_is_old_or_new_and_no_part_of_it_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _handle: None)  # a thousand of them take half a minute
    target, seen = tmp_path / "a.png", set[bytes]()

    def work() -> None:
        with atomic_path(target) as temporary:
            temporary.write_bytes(b"new")

    count = 0
    while True:
        target.write_bytes(b"old")
        count += 1
        if not interrupted(work, count):
            break
        seen.add(target.read_bytes())
        assert [file.name for file in tmp_path.iterdir()] == ["a.png"], f"instruction {count}"
    assert seen == {b"old", b"new"} and count > 100 and target.read_bytes() == b"new"


def test_a_claim_is_given_up(tmp_path: Path) -> None:
    """Where the interrupt comes while it is being given up, the lock file may stay; the next claim takes it away."""
    target, lock, stages = tmp_path / "a.png", tmp_path / ".a.png.lock", list[str]()

    def work() -> None:
        stages.append("start")
        with claim_output(target):
            stages.append("claimed")
        stages.append("over")

    count = 0
    while True:
        (tmp_path / ".a.png.0123abcd.part.png").write_bytes(b"of a killed one")
        stages.clear()
        count += 1
        if not interrupted(work, count):
            break
        left = {file.name for file in tmp_path.iterdir()}
        assert stages[-1:] == ["claimed"] or lock.name not in left, f"instruction {count}"
        with claim_output(target):
            assert [file.name for file in tmp_path.iterdir()] == [lock.name]
        assert not list(tmp_path.iterdir())
    assert count > 100
