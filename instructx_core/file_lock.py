"""One process at a time: a lock on a file that the system lifts when its process ends, however it ends.

Below what keeps others from its work: outputs (media/outputs.py), compiled kernels (kernels/cache.py), runs of a study
(study/queue.py). The lock's file goes when it is given up. On Linux and macOS it is flock, on Windows a locked byte.
"""

from __future__ import annotations

import contextlib
import enum
import importlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PAUSE = 0.05  # seconds between two attempts


class Lock(enum.Enum):
    """Who has it. UNKNOWN: the file system knows no locks, as some of networks do; nothing keeps others away."""

    OURS = "ours"
    THEIRS = "theirs"
    UNKNOWN = "unknown"


class NoLockFile(OSError):
    """The file to lock can be neither opened nor made."""


@contextlib.contextmanager
def file_lock(path: Path, seconds: float = 0.0) -> Iterator[Lock]:
    """Tries to have the lock on `path` during the block, for so many seconds while another process or thread has it.

    Raises NoLockFile. An interrupt leaves no lock, and hardly a file: one
    that comes while it is given up may, which the next lock takes away.
    """
    deadline = time.monotonic() + seconds
    file: IO[bytes] | None = None
    try:  # from here on: an interrupt may come after any instruction
        file = _open(path)
        found = _try(file, path)
        while found is Lock.THEIRS and time.monotonic() < deadline:
            file.close()
            time.sleep(PAUSE)
            file = _open(path)  # again: the other one removes its file
            found = _try(file, path)
        yield found
    finally:
        _give_up(file, path)


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("ab")
    except OSError as error:
        raise NoLockFile(error.errno, error.strerror, str(path)) from None


def _try(file: IO[bytes], path: Path) -> Lock:
    """Locks the open file at `path`, which may have it already; THEIRS too when another has just given it up."""
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            windows: Any = importlib.import_module("msvcrt")
            file.seek(0)
            windows.locking(file.fileno(), windows.LK_NBLCK, 1)
        return Lock.OURS if os.path.samestat(os.fstat(file.fileno()), path.stat()) else Lock.THEIRS
    except (BlockingIOError, PermissionError, FileNotFoundError):  # no permission: Windows, and its shares
        return Lock.THEIRS
    except OSError:
        return Lock.UNKNOWN


def _give_up(file: IO[bytes] | None, path: Path) -> None:
    """Lifts the lock and removes its file, unless another process has it."""
    if fcntl is None:  # Windows removes no file that anyone has open, so it is closed first
        if file is not None:
            file.close()
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return
    with contextlib.suppress(OSError):
        if file is None or file.closed:  # the interrupt came just after the file was made, or between two attempts
            if not path.exists():
                return
            file = path.open("ab")
        with file:
            if _try(file, path) is not Lock.THEIRS:
                path.unlink(missing_ok=True)
