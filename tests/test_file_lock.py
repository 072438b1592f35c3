"""One lock, on both kinds of system: flock, and the locked byte of Windows, which removes no file that is open."""

from __future__ import annotations

import fcntl as posix
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from instructx_core import file_lock as module
from instructx_core.file_lock import Lock, NoLockFile, file_lock

HOLD = """
import sys
from pathlib import Path
from instructx_core.file_lock import file_lock
with file_lock(Path(sys.argv[1])) as lock:
    print(lock.value, flush=True)
    sys.stdin.read()
"""


def _locked_byte(handle: int, mode: int, count: int) -> None:
    """What msvcrt.locking does, LK_NBLCK: one handle has the byte, even of one process, until it is closed."""
    assert (mode, count) == (2, 1) and os.lseek(handle, 0, os.SEEK_CUR) == 0
    try:
        posix.flock(handle, posix.LOCK_EX | posix.LOCK_NB)
    except BlockingIOError:
        raise PermissionError(13, "Permission denied") from None


def _leads_to(link: Path) -> str:
    """Of an open file, as this system lists it; "" for what is closed, ended or somebody else's by now."""
    try:
        return os.readlink(link)
    except OSError:
        return ""


def _remove_unless_open(path: Path, missing_ok: bool = False) -> None:
    """As Windows does."""
    if str(path) in map(_leads_to, Path("/proc").glob("[0-9]*/fd/*")):
        raise PermissionError(13, "Permission denied", str(path))
    if path.exists() or not missing_ok:
        os.unlink(path)


@pytest.fixture(params=["here", "windows"], autouse=True)
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "windows":
        if not Path("/proc/self/fd").exists():
            pytest.skip("which files are open is read from /proc")
        monkeypatch.setattr(module, "fcntl", None)
        monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=_locked_byte, LK_NBLCK=2))
        monkeypatch.setattr(Path, "unlink", _remove_unless_open)
    return request.param


def test_one_has_it_and_its_file_goes(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    for _ in range(2):
        with file_lock(path) as first, file_lock(path) as second:
            assert (first, second) == (Lock.OURS, Lock.THEIRS)
        assert not list(tmp_path.iterdir())


def test_who_was_refused_takes_nothing_away(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with file_lock(path):
        with file_lock(path):
            pass
        assert path.exists()
        with file_lock(path) as third:
            assert third is Lock.THEIRS


def test_another_process_has_it_until_it_dies(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], text=True, **pipes) as other:
        assert other.stdout is not None and other.stdout.readline() == "ours\n"
        with file_lock(path) as lock:
            assert lock is Lock.THEIRS
        other.kill()
    with file_lock(path) as lock:
        assert lock is Lock.OURS
    assert not list(tmp_path.iterdir())


def test_waiting(tmp_path: Path) -> None:
    """Eight at once, each in turn; then one that waits in vain."""
    path, inside, order = tmp_path / ".lock", list[int](), list[int]()

    def work(number: int) -> None:
        with file_lock(path, 60) as lock:
            assert lock is Lock.OURS and not inside
            inside.append(number)
            time.sleep(0.01)
            order.append(inside.pop())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(order) == list(range(8)) and not list(tmp_path.iterdir())
    with file_lock(path):
        begin = time.monotonic()
        with file_lock(path, 0.2) as lock:
            assert lock is Lock.THEIRS and time.monotonic() - begin >= 0.2


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    def none(*_: int) -> None:
        raise OSError(38, "Function not implemented")

    if system == "windows":
        monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=none, LK_NBLCK=2))
    else:
        monkeypatch.setattr(posix, "flock", none)
    with file_lock(tmp_path / ".lock", 60) as lock:
        assert lock is Lock.UNKNOWN
    assert not list(tmp_path.iterdir())


def test_no_place_for_a_file(tmp_path: Path) -> None:
    with pytest.raises(NoLockFile, match="No such file"), file_lock(tmp_path / "none" / ".lock"):
        pass
