"""Cache of compiled kernels and measurements: small files in a private folder of the user, checked whenever read.

Place in the data flow: `loader.py` asks here before it compiles. A key is a sha256 of everything that went into an
entry; an entry carries a digest of key and content, so that a damaged, truncated or foreign file is compiled again
instead of being loaded into the driver. Where the folder cannot be used (read-only, full, not ours) entries live in
memory only, and one INFO line says so. No pickle, no network.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..file_lock import NoLockFile, file_lock

logger = logging.getLogger("instructx")

FOLDER_VARIABLE = "INSTRUCTX_KERNEL_CACHE"
_MAGIC = b"ixk1"
_DIGEST = 32
_KEPT_FILES = 64
_LOCK_SECONDS = 60.0


def default_folder() -> Path:
    """$INSTRUCTX_KERNEL_CACHE, else the user's cache folder of this system."""
    if os.environ.get(FOLDER_VARIABLE):
        return Path(os.environ[FOLDER_VARIABLE])
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif os.environ.get("XDG_CACHE_HOME"):
        base = Path(os.environ["XDG_CACHE_HOME"])
    else:
        base = Path.home() / ".cache"
    return base / "instructx" / "kernels"


def digest(*parts: str | bytes) -> str:
    """sha256 of the parts, each with its length in front, so that no two lists of parts share a key."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return sha.hexdigest()


class KernelCache:
    """Entries by key: in memory, and on disk where the folder is private and writable."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._memory: dict[str, bytes] = {}
        self._problem: str | None = None
        self._ready = False

    @property
    def place(self) -> str:
        """Where entries go, for the report: the folder, or why there is none."""
        folder = self._usable()
        return str(folder) if folder is not None else f"memory only ({self._problem})"

    def get(self, key: str) -> bytes | None:
        """Content of an entry; None where there is none or where it does not pass its check."""
        if key in self._memory:
            return self._memory[key]
        folder = self._usable()
        if folder is None:
            return None
        path = folder / key
        try:
            data = path.read_bytes()
        except OSError:
            return None
        content = data[len(_MAGIC) + _DIGEST :]
        if data[: len(_MAGIC) + _DIGEST] != _header(key, content):
            logger.info("kernel cache: %s is damaged and is made again", path.name[:12])
            return None
        self._memory[key] = content
        return content

    def put(self, key: str, content: bytes) -> None:
        """Stores an entry: atomically, so that a reader sees the old file, the new one or none."""
        self._memory[key] = content
        folder = self._usable()
        if folder is None:
            return
        try:
            _write(folder, key, _header(key, content) + content)
            _prune(folder)
        except OSError as error:
            # PermissionError on Windows: another process has the same entry open, which is as good as written.
            if not (isinstance(error, PermissionError) and (folder / key).exists()):
                self._memory_only(str(error))

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Held while an entry is made: of several workers one compiles, the others wait and read.

        After a minute of waiting the caller goes on without the lock: entries are replaced atomically anyway.
        """
        folder = self._usable()
        with contextlib.ExitStack() as stack:
            if folder is not None:
                with contextlib.suppress(NoLockFile):  # a full disk: without the lock as well
                    stack.enter_context(file_lock(folder / f"{key}.lock", _LOCK_SECONDS))
            yield

    def _usable(self) -> Path | None:
        if self._ready:
            return None if self._problem else self._folder
        self._ready = True
        try:
            self._folder = self._folder or default_folder()
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            problem = _not_private(self._folder)
            if problem is None:
                with tempfile.TemporaryFile(dir=self._folder):
                    pass
        except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
            problem = str(error)
        if problem is not None:
            self._memory_only(problem)
            return None
        return self._folder

    def _memory_only(self, problem: str) -> None:
        if self._problem is None:
            logger.info("kernel cache: not kept on disk (%s); kernels compile once per process", problem)
        self._problem = problem


def _header(key: str, content: bytes) -> bytes:
    return _MAGIC + bytes.fromhex(digest(key, content))


def _not_private(folder: Path) -> str | None:
    """Why files in this folder could come from somebody else; code from them runs on the user's card."""
    if sys.platform == "win32":
        return None  # the user profile is private by its access list
    info = folder.stat()
    if not stat.S_ISDIR(info.st_mode):
        return f"{folder} is no folder"
    if info.st_uid != os.geteuid():
        return f"{folder} belongs to another user"
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"{folder} can be written by others; chmod go-w it"
    return None


def _write(folder: Path, key: str, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(prefix="new-", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(name, folder / key)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _prune(folder: Path) -> None:
    """Old versions' entries would pile up: the newest are kept. Half-written leftovers go with the old ones."""
    files = [(path.stat().st_mtime, path) for path in folder.iterdir() if path.suffix != ".lock" and path.is_file()]
    for _, path in sorted(files, reverse=True)[_KEPT_FILES:]:
        with contextlib.suppress(OSError):
            path.unlink()
