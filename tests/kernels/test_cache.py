"""The cubin cache: checked on load, private, atomic, usable by parallel workers, harmless where it cannot write."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from instructx_core.kernels.cache import KernelCache, default_folder, digest

KEY = digest("some", "entry")


def test_digest_separates_its_parts() -> None:
    assert digest("ab", "c") != digest("a", "bc") != digest("abc")
    assert digest("a", b"b") == digest(b"a", "b")


def test_an_entry_survives_the_process(tmp_path: Path) -> None:
    KernelCache(tmp_path / "c").put(KEY, b"\x7fELF cubin")
    assert KernelCache(tmp_path / "c").get(KEY) == b"\x7fELF cubin"
    assert KernelCache(tmp_path / "c").get(digest("other")) is None
    assert KernelCache(tmp_path / "c").place == str(tmp_path / "c")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "renamed", "foreign"])
def test_a_damaged_entry_is_not_returned(tmp_path: Path, damage: str) -> None:
    KernelCache(tmp_path).put(KEY, b"\x7fELF cubin")
    path = tmp_path / KEY
    data = path.read_bytes()
    other = digest("another")
    if damage == "renamed":  # a valid entry under the key of another source
        path.rename(tmp_path / other)
        assert KernelCache(tmp_path).get(other) is None
        return
    broken = {"truncated": data[:-1], "flipped": data[:-1] + b"x", "empty": b"", "foreign": b"\x7fELF cubin"}[damage]
    path.write_bytes(broken)
    assert KernelCache(tmp_path).get(KEY) is None


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_the_folder_is_private(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    KernelCache(tmp_path / "new").put(KEY, b"x")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with caplog.at_level(logging.INFO, "instructx"):
        cache = KernelCache(shared)
        cache.put(KEY, b"x")
        assert cache.get(KEY) == b"x"  # from memory
        cache.put(KEY, b"y")
    assert not list(shared.iterdir())
    assert len(caplog.records) == 1 and "can be written by others" in caplog.text


def test_a_folder_that_cannot_be_made_means_memory_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.INFO, "instructx"):
        cache = KernelCache(tmp_path / "file" / "cache")
        cache.put(KEY, b"x")
        with cache.lock(KEY):
            assert cache.get(KEY) == b"x"
    assert len(caplog.records) == 1 and cache.place.startswith("memory only")


def test_a_full_disk_means_memory_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = KernelCache(tmp_path)
    assert cache.get(KEY) is None

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with caplog.at_level(logging.INFO, "instructx"):
        cache.put(KEY, b"x")
        cache.put(digest("second"), b"y")
    assert cache.get(KEY) == b"x" and not list(tmp_path.iterdir())
    assert len(caplog.records) == 1 and "No space left" in caplog.text


def test_old_entries_are_pruned(tmp_path: Path) -> None:
    cache = KernelCache(tmp_path)
    for number in range(70):
        cache.put(digest(str(number)), b"x")
        os.utime(tmp_path / digest(str(number)), (number, number))
    assert len(list(tmp_path.iterdir())) <= 65
    assert KernelCache(tmp_path).get(digest("69")) == b"x"


def test_the_lock_lets_one_work_and_the_others_wait(tmp_path: Path) -> None:
    cache, order = KernelCache(tmp_path), []

    def work(name: str) -> None:
        with KernelCache(tmp_path).lock(KEY):
            order.append(name)
            time.sleep(0.05)
            order.append(name)

    assert cache.get(KEY) is None
    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert order in (["a", "a", "b", "b"], ["b", "b", "a", "a"])
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="flock")
def test_a_dead_worker_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import fcntl, os, sys; f = open(sys.argv[1], 'ab'); fcntl.flock(f, fcntl.LOCK_EX); "
        "print('held', flush=True); sys.stdin.read()"
    )
    lock = tmp_path / f"{KEY}.lock"
    with subprocess.Popen([sys.executable, "-c", code, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None and worker.stdout.readline() == b"held\n"
        worker.kill()
    monkeypatch.setattr(time, "sleep", lambda _seconds: pytest.fail("it waits"))
    with KernelCache(tmp_path).lock(KEY):
        pass


def test_folder_of_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INSTRUCTX_KERNEL_CACHE", str(tmp_path))
    assert default_folder() == tmp_path
    monkeypatch.delenv("INSTRUCTX_KERNEL_CACHE")
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert default_folder() == tmp_path / "xdg" / "instructx" / "kernels"
