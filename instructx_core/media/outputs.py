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
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..file_lock import Lock, NoLockFile, file_lock
from .base import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from .names import check_name, hidden_beside, output_place

if TYPE_CHECKING:
    from torch import Tensor

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PLACE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOENT, errno.ENOTDIR, errno.ENXIO, errno.ESTALE)
NO_LOCKS = "this file system has no locks: nothing keeps another process from writing the same output"


def output_kind(path: str | Path) -> str:
    """'image' or 'video' by the suffix. Raises InputError for any other suffix, a name that cannot be, a folder that is
    none, and for what stands there and is no file."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
        known = ", ".join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)
        raise InputError(f"{path}: unknown output suffix {suffix!r}; use one of {known}")
    check_name(path)
    place = output_place(path)
    if os.path.isdir(place):
        raise InputError(f"{path}: this is a folder; name a file in it")
    if os.path.exists(place) and not os.path.isfile(place):
        raise InputError(f"{path}: this is a pipe or a device; name a file")
    _check_folder(path, place.parent)
    return "image" if suffix in IMAGE_SUFFIXES else "video"


def _check_folder(path: Path, folder: Path) -> None:
    try:
        found = folder.stat()
    except FileNotFoundError:
        raise InputError(f"{path}: the folder {folder} does not exist; create it first") from None
    except NotADirectoryError:
        raise InputError(f"{path}: a part of {folder} is a file, not a folder; choose another place") from None
    except OSError as error:
        raise InputError(f"{path}: the folder {folder} cannot be used ({error.strerror}); choose another") from None
    if not stat.S_ISDIR(found.st_mode):
        raise InputError(f"{path}: {folder} is a file, not a folder; choose another place")


def check_folder(folder: str | Path) -> None:
    """Raises InputError where no folder can be made because a file is in its place or above it. Makes nothing."""
    path = Path(folder).absolute()
    there = next((place for place in (path, *path.parents) if os.path.lexists(place)), None)
    if there is not None and not there.is_dir():
        raise InputError(f"{folder}: {there} is a file, not a folder; choose another place")


def make_folder(folder: str | Path) -> Path:
    """A folder for results, made where there is none. Raises InputError where a file is, or none can be made."""
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"{folder}: is a file, not a folder; choose another place") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{folder}: cannot be made a folder ({reason}); choose another place") from None
    return path


def check_writable(path: str | Path) -> None:
    """Raises InputError when nothing can be written beside `path`, before any work is done for it. It is tried."""
    path = Path(path)
    trial = _part(path)
    try:
        _make(path, trial)
    finally:
        with contextlib.suppress(OSError):
            trial.unlink(missing_ok=True)


@contextlib.contextmanager
def claim_output(path: str | Path) -> Iterator[tuple[str, ...]]:
    """No other process that claims it writes `path` during the block. Removes what a killed one left beside it.

    The claim is a lock on a file `.NAME.lock` (file_lock.py), lifted when the process ends, however it ends. Gives
    notes: where the file system knows no locks, as some of networks do, nothing is claimed and nothing removed.
    Raises InputError when another process has it, or the folder is missing or cannot be written to.
    """
    path = Path(path)
    output_kind(path)
    try:
        with file_lock(hidden_beside(path, ".lock")) as lock:
            if lock is Lock.THEIRS:
                raise InputError(f"{path}: another process is writing this file; wait for it or choose another name")
            if lock is Lock.OURS:
                _remove_parts(path)
            yield () if lock is Lock.OURS else (NO_LOCKS,)
    except NoLockFile as error:
        raise InputError(f"{path}: cannot write into its folder ({error.strerror}); choose another place") from None


def _remove_parts(path: Path) -> None:
    """Of a process that was killed while it wrote `path`."""
    ending = f".{'0' * 8}.part{path.suffix}"
    start = hidden_beside(path, ending).name.removesuffix(ending)
    left = re.compile(rf"{re.escape(start)}\.[0-9a-f]{{8}}\.part{re.escape(path.suffix)}")
    with contextlib.suppress(OSError):  # a folder that can be written to and not listed, a file that Windows holds open
        for file in output_place(path).absolute().parent.iterdir():
            if left.fullmatch(file.name):
                file.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place only if the block succeeds; the old file survives a failure.

    Of a link the target is written, and the link stays. Raises InputError when the folder cannot be written to, or the
    disk is full.
    """
    path = Path(path)
    place = output_place(path)
    temporary = _part(path)
    try:  # it has its name before it is made, so that an interrupt finds it wherever it comes
        _make(path, temporary)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())  # on the disk before it takes the old one's place
        os.replace(temporary, place)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise not_written(path, error) from None
    finally:
        with contextlib.suppress(OSError):  # where it could not be made, it cannot be looked for either
            temporary.unlink(missing_ok=True)


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """A safetensors file, atomically; its writer's errors of the disk as atomic_path's."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from None


def not_written(path: Path, error: Exception) -> InputError:
    """What to say of an error of the system, or of FFmpeg, in writing a result: the disk is blamed for its own only."""
    number, reason = getattr(error, "errno", None), getattr(error, "strerror", None) or str(error)
    if number in _FULL:
        return InputError(f"{path}: cannot be written ({reason}); free some space first")
    if number in _PLACE:
        return InputError(f"{path}: cannot be written there ({reason}); choose another place")
    return InputError(f"{path}: the encoder or the container refused its content ({reason}); try an output in .mkv")


def _part(path: Path) -> Path:
    return hidden_beside(path, f".{secrets.token_hex(4)}.part{path.suffix}")


def _make(path: Path, temporary: Path) -> None:
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise InputError(f"{path}: cannot write into its folder ({error.strerror}); choose another place") from None
