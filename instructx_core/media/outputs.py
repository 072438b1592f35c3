"""Where results go: the kind that a name asks for, one writer at a time, an old file that survives every failure.

A result is written under another name beside its place and takes it when it is whole and on the disk; a second process
that wants the same place is refused while the first one runs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..errors import InputError
from .base import IMAGE_SUFFIXES, VIDEO_SUFFIXES


def output_kind(path: str | Path) -> str:
    """'image' or 'video' by the suffix. Raises InputError for any other suffix or a missing folder."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
        known = ", ".join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)
        raise InputError(f"{path}: unknown output suffix {suffix!r}; use one of {known}")
    if path.is_dir():
        raise InputError(f"{path}: this is a folder; name a file in it")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist; create it first")
    return "image" if suffix in IMAGE_SUFFIXES else "video"


@contextlib.contextmanager
def claim_output(path: str | Path) -> Iterator[None]:
    """No other process that claims it writes `path` during the block. Removes what a killed one left beside it.

    The claim is a lock on a file `.NAME.lock`; the system lifts it when the process ends, however it ends.
    Raises InputError when another process has it, or the folder is missing or cannot be written to.
    """
    path = Path(path)
    output_kind(path)
    lock = path.with_name(f".{path.name}.lock")
    handle = None
    try:  # from here on: an interrupt may come after any instruction
        handle = _open_lock(path, lock)
        if not _lock(handle.fileno(), lock):
            raise InputError(f"{path}: another process is writing this file; wait for it or choose another name")
        left = re.compile(rf"\.{re.escape(path.stem)}\.[a-z0-9_]{{8}}\.part{re.escape(path.suffix)}")
        for file in path.absolute().parent.iterdir():
            if left.fullmatch(file.name):
                file.unlink(missing_ok=True)
        yield
    finally:
        _give_up(handle, path, lock)


def _open_lock(path: Path, lock: Path) -> IO[bytes]:
    try:
        return lock.open("ab")
    except OSError as error:
        raise InputError(f"{path}: cannot write into its folder ({error.strerror}); choose another place") from None


def _give_up(handle: IO[bytes] | None, path: Path, lock: Path) -> None:
    """Removes the lock file, while it is still locked, unless another process has it."""
    if handle is None and not os.path.exists(lock):
        return
    with handle or _open_lock(path, lock) as locked:  # no handle: the interrupt came just after the file was made
        if _lock(locked.fileno(), lock):
            lock.unlink(missing_ok=True)


def _lock(handle: int, path: Path) -> bool:
    """Locks the open file at `path` for this process, also when it has it already; False when another one has it or
    has just given it up."""
    try:
        import fcntl
    except ImportError:  # Windows: there is no lock that a crash lifts and that lets the file be removed
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place only if the block succeeds; the old file survives a failure.

    Raises InputError when the folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    try:  # it has its name before it is made, so that an interrupt finds it wherever it comes
        _make(path, temporary)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # on the disk before it takes the old one's place
        os.replace(temporary, path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise InputError(f"{path}: cannot be written ({error.strerror}); free some space first") from None
    finally:
        with contextlib.suppress(OSError):  # where it could not be made, it cannot be looked for either
            temporary.unlink(missing_ok=True)


def _make(path: Path, temporary: Path) -> None:
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise InputError(f"{path}: cannot write into its folder ({error.strerror}); choose another place") from None
